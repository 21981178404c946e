package admin

import (
	"errors"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestBodySaysWhichFieldWantsWhat(t *testing.T) {
	for body, want := range map[string]string{
		`{"ids":[]}`:                  "ids is empty, it has to be a list of receipt ids; leave it out to mean all",
		`{"ids":null}`:                "ids is empty, it has to be a list of receipt ids; leave it out to mean all",
		`{"died_of":""}`:              "died_of is empty, it has to be a reason such as permanent; leave it out to mean all",
		`{"since":null}`:              "since is empty, it has to be a time such as 2027-11-11T00:00:00Z; leave it out to mean all",
		`{"ids":"a"}`:                 `ids is "a", it has to be a list of receipt ids; leave it out to mean all`,
		`{"since":"noon"}`:            `since is "noon", it has to be a time such as 2027-11-11T00:00:00Z; leave it out to mean all`,
		`{"for_seconds":"20m"}`:       `for_seconds is "20m", it has to be a number of seconds, such as 1200`,
		`{"for_seconds":-1}`:          "for_seconds goes from 0 to 31622400, 366 days",
		`{"rate":"fast"}`:             `rate is "fast", it has to be a number of messages a second, a text such as 3000/m, or unlimited`,
		`{"rate":[5]}`:                "rate is [5], it has to be a number of messages a second, a text such as 3000/m, or unlimited",
		`{"dry_run":"yes"}`:           `dry_run is "yes", it has to be true or false`,
		`{"REASON":"x"}`:              `there is no field "REASON"; there are died_of, drain, dry_run, for_seconds, ids, key, rate, reason, since`,
		`{"Selection":{}}`:            `there is no field "Selection"; there are died_of, drain, dry_run, for_seconds, ids, key, rate, reason, since`,
		`{"reason":"a","reason":"b"}`: `"reason" is there twice; keep one`,
		`{"reason":"a"} {}`:           "the body goes on after its JSON object; send one alone",
		`{"reason":"a"`:               `the body is no JSON object such as {"reason":"INC-123"}: EOF`,
		`{"reason":}`:                 `the body is no JSON object such as {"reason":"INC-123"}: `,
		`["reason"]`:                  `the body is no JSON object such as {"reason":"INC-123"}`,
		`null`:                        `the body is no JSON object such as {"reason":"INC-123"}`,
		`{"reason":"` + strings.Repeat("x", 501) + `"}`: "reason is over 500 bytes",
	} {
		_, err := readAct(httptest.NewRequest("POST", "/", strings.NewReader(body)))
		var invalid Invalid
		if !errors.As(err, &invalid) || !strings.HasPrefix(string(invalid), want) || strings.Contains(string(invalid), "Act") {
			t.Errorf("%s: %v\nwant %s", body, err, want)
		}
	}
}

func TestBodyIsRead(t *testing.T) {
	for body, want := range map[string]Act{
		``:                                     {},
		`{}`:                                   {},
		`{"reason":null,"rate":null}`:          {},
		` {"reason":"INC-1","for_seconds":2} `: {Reason: "INC-1", ForSeconds: 2},
		`{"drain":"d","ids":["a"],"died_of":"permanent","dry_run":true}`: {
			Selection: Selection{Drain: "d", IDs: []string{"a"}, DiedOf: "permanent", DryRun: true},
		},
	} {
		got, err := readAct(httptest.NewRequest("POST", "/", strings.NewReader(body)))
		want.Actor = got.Actor
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got):\n%s", body, err, diff)
		}
	}
}

func TestBadRequestNamesFieldsAsTheyAre(t *testing.T) {
	w := ask(t, Handler(backend(), nil, quiet()), request{method: "POST", path: "/api/v1/drains/d/pause", body: `{"for_seconds":"20m"}`})
	if want := `"detail":"for_seconds is \"20m\", it has`; !strings.Contains(w.Body.String(), want) {
		t.Errorf("POST = %s, want %s", w.Body, want)
	}
}
