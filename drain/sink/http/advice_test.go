package http_test

import (
	nethttp "net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"forebay/drain"
	"forebay/drain/sink/http"
	"forebay/limiter"
)

func rate(r limiter.Rate) drain.Advice {
	return drain.Advice{Field: drain.RateField, Rate: r, Lasts: time.Minute}
}

func left(r, t int) drain.Advice {
	return drain.Advice{Field: drain.QuotaField, Rate: limiter.Rate(float64(r) / float64(t)), Lasts: time.Duration(t) * time.Second}
}

func ignored(field string) drain.Advice { return drain.Advice{Field: field} } // whatever the fault is

// What an answer says of how much the sink takes is read within bounds, whatever the
// status; what makes no sense is told as such.
func TestAdvice(t *testing.T) {
	const notRate, notQuota, notPause = drain.RateField, drain.QuotaField, drain.PauseField
	for _, tc := range []struct {
		name   string
		fields []string // name, value, …
		want   []drain.Advice
	}{
		{"nothing", nil, nil},
		{"a rate", []string{"Forebay-Rate", "350/s"}, []drain.Advice{rate(350)}},
		{"a rate a minute", []string{"Forebay-Rate", " 30/m"}, []drain.Advice{rate(0.5)}},
		{"several rates", []string{"Forebay-Rate", "350/s", "Forebay-Rate", "20"}, []drain.Advice{rate(20)}},
		{"no more rate", []string{"Forebay-Rate", "unlimited"}, []drain.Advice{rate(limiter.Unlimited)}},
		{"a negative rate", []string{"Forebay-Rate", "-5/s"}, []drain.Advice{ignored(notRate)}},
		{"an empty rate", []string{"Forebay-Rate", ""}, []drain.Advice{ignored(notRate)}},
		{"no number", []string{"Forebay-Rate", "NaN"}, []drain.Advice{ignored(notRate)}},
		{"half nonsense", []string{"Forebay-Rate", "20", "Forebay-Rate", "soon"}, []drain.Advice{ignored(notRate)}},

		{"a quota", []string{"RateLimit", `"default";r=50;t=30`}, []drain.Advice{left(50, 30)}},
		{"one that is used up", []string{"RateLimit", `"default";r=0;t=5`}, []drain.Advice{left(0, 5)}},
		{"for a year", []string{"RateLimit", `"default";r=0;t=31536000`}, []drain.Advice{left(0, 31536000)}},
		{"for longer than there is time", []string{"RateLimit", `"default";r=0;t=999999999999999`}, []drain.Advice{left(0, 10*365*24*3600)}},
		{"for no time", []string{"RateLimit", `"default";r=0;t=0`}, []drain.Advice{left(0, 1)}},
		{"for who knows how long", []string{"RateLimit", `"default";r=0`}, []drain.Advice{left(0, 1)}},
		{"the most restrictive", []string{"RateLimit", `"a";r=50;t=30, "b";r=20;t=30 , "c";r=10;t=1`}, []drain.Advice{left(20, 30)}},
		{"the longest of those used up", []string{"RateLimit", `"a";r=0;t=3,"b";r=0;t=30`, "RateLimit", `"c";r=5;t=10`}, []drain.Advice{left(0, 30), left(5, 10)}},
		{"with its key", []string{"RateLimit", `"a\"b";pk=:cHJvamVjdA==:;r=5;t=10;x;y=?1;z=1.5;q=tok/en`}, []drain.Advice{left(5, 10)}},
		{"the window of its policy", []string{"RateLimit", `"a";r=5`, "RateLimit-Policy", `"b";q=1;w=2, "a";q=100;w=60`}, []drain.Advice{left(5, 60)}},
		{"without any time", []string{"RateLimit", `"a";r=5`}, nil},
		{"of bytes", []string{"RateLimit", `"a";r=0;t=60`, "RateLimit-Policy", `"a";q=100;w=60;qu="content-bytes"`}, nil},
		{"of requests", []string{"RateLimit", `"a";r=0;t=60`, "RateLimit-Policy", `"a";q=100;w=60;qu="requests"`}, []drain.Advice{left(0, 60)}},
		{"a policy alone", []string{"RateLimit-Policy", `"a";q=100;w=60`}, nil},
		{"a policy of nonsense", []string{"RateLimit", `"a";r=5;t=10`, "RateLimit-Policy", `q=`}, []drain.Advice{ignored(notQuota), left(5, 10)}},
		{"the old draft", []string{"RateLimit", "limit=100, remaining=0, reset=5"}, []drain.Advice{ignored(notQuota)}},
		{"a negative rest", []string{"RateLimit", `"a";r=-1;t=5`}, []drain.Advice{ignored(notQuota)}},
		{"half a request", []string{"RateLimit", `"a";r=0.5;t=5`}, []drain.Advice{ignored(notQuota)}},
		{"a negative time", []string{"RateLimit", `"a";r=0;t=-5`}, []drain.Advice{ignored(notQuota)}},
		{"a string for a time", []string{"RateLimit", `"a";r=0;t="5"`}, []drain.Advice{ignored(notQuota)}},
		{"more digits than there may be", []string{"RateLimit", `"a";r=0;t=1000000000000000`}, []drain.Advice{ignored(notQuota)}},
		{"one good item beside a bad one", []string{"RateLimit", `"a";r=x;t=5, "b";r=0;t=5`}, []drain.Advice{ignored(notQuota), left(0, 5)}},
		{"a comma at the end", []string{"RateLimit", `"a";r=0;t=5,`}, []drain.Advice{ignored(notQuota)}},
		{"no end", []string{"RateLimit", `"a`}, []drain.Advice{ignored(notQuota)}},
		{"too long", []string{"RateLimit", `"` + strings.Repeat("a", 5000) + `";r=0;t=5`}, []drain.Advice{ignored(notQuota)}},

		{"a pause of nonsense", []string{"Retry-After", "soon"}, []drain.Advice{ignored(notPause)}},
		{"all at once", []string{"Forebay-Rate", "7", "RateLimit", `"a";r=0;t=5`}, []drain.Advice{rate(7), left(0, 5)}},
	} {
		for _, status := range []int{200, 422, 429, 503} {
			srv := httptest.NewServer(nethttp.HandlerFunc(func(w nethttp.ResponseWriter, _ *nethttp.Request) {
				for i := 0; i < len(tc.fields); i += 2 {
					w.Header().Add(tc.fields[i], tc.fields[i+1])
				}
				w.WriteHeader(status)
			}))
			got := deliver(t, newSink(t, policy(t, srv.URL)), order()).Advice
			srv.Close()
			for i := range got {
				if got[i].Fault != "" {
					got[i].Fault, got[i].Lasts = "", 0
				}
			}
			want := tc.want
			if tc.fields != nil && tc.fields[0] == "Retry-After" && status < 429 {
				want = nil
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s, status %d (-want +got):\n%s", tc.name, status, diff)
			}
		}
	}
}

// Of an answer to a live request Forebay-Rate is for us, and the rest is its caller's.
func TestLiveAdvice(t *testing.T) {
	resp := &nethttp.Response{
		StatusCode: 200, Request: httptest.NewRequest("GET", "http://shop/", nil),
		Header: nethttp.Header{"Forebay-Rate": {"350/s"}, "Ratelimit": {`"customer-7";r=0;t=3600`}, "Retry-After": {"3600"}},
	}
	for _, status := range []int{200, 404, 429} {
		resp.StatusCode = status
		if diff := cmp.Diff([]drain.Advice{rate(350)}, http.LiveOutcome(resp).Advice); diff != "" {
			t.Errorf("status %d (-want +got):\n%s", status, diff)
		}
	}
}

// FuzzAdvice: whatever a sink sends, nothing is asked for longer than can be waited.
func FuzzAdvice(f *testing.F) {
	f.Add(`"a";r=0;t=5, "b";pk=:YQ==:;r=1`, `"b";q=1;w=2`, "350/s", "7")
	f.Add(`"\\";r`, `"";w=-0`, "1e9/h", "-1")
	f.Fuzz(func(t *testing.T, quota, policy, rate, pause string) {
		for _, a := range http.AdviceOf(&nethttp.Response{StatusCode: 503, Header: nethttp.Header{
			"Ratelimit": {quota}, "Ratelimit-Policy": {policy}, "Forebay-Rate": {rate}, "Retry-After": {pause},
		}}) {
			if a.Fault == "" && (a.Lasts <= 0 || a.Lasts > 11*365*24*time.Hour || !(a.Rate >= 0)) {
				t.Errorf("%+v", a)
			}
		}
	})
}
