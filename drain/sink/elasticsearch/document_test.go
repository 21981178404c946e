package elasticsearch_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"forebay/buffer"
	"forebay/drain"
)

func TestDocuments(t *testing.T) {
	const at = `"@timestamp":"2026-11-11T23:30:00.005Z"`
	tests := []struct {
		name, keys, body string
		header           []buffer.Field
		want             document
	}{
		{"an object as it is", "index: logs", `{"b": 1, "a":"é"}`, nil, document{"logs", `{"b": 1, "a":"é"}`}},
		{"an object of several lines", "index: logs", "\n{\r\n \"a\": 1\n}\n", nil, document{"logs", ` {   "a": 1 } `}},
		{"a line of text", "index: logs", "GET /a \"x\\y\" \t\x01 200", nil, document{"logs", `{` + at + `,"message":"GET /a \"x\\y\" \t\u0001 200"}`}},
		{"nothing", "index: logs", "", nil, document{"logs", `{` + at + `,"message":""}`}},
		{"a list", "index: logs", `[1]`, nil, document{"logs", `{` + at + `,"message":"[1]"}`}},
		{"what only begins like an object", "index: logs", "{x} y\nz\r", nil, document{"logs", `{` + at + `,"message":"{x} y\nz\r"}`}},
		{"two objects", "index: logs", `{}{}`, nil, document{"logs", `{` + at + `,"message":"{}{}"}`}},
		{"a data stream", "index: logs, data_stream: true", ` { "a":1}`, nil, document{"logs", `{` + at + `,"a":1}`}},
		{"a data stream, an empty object", "index: logs, data_stream: true", `{ }`, nil, document{"logs", `{` + at + `}`}},
		{"a data stream, a time of its own", "index: logs, data_stream: true", `{"a":{},"@timestamp":1}`, nil, document{"logs", `{"a":{},"@timestamp":1}`}},
		{"a data stream, a time further down", "index: logs, data_stream: true", `{"a":{"@timestamp":1}}`, nil, document{"logs", `{` + at + `,"a":{"@timestamp":1}}`}},
		{"the day", `index: "logs-{date}"`, `{}`, nil, document{"logs-2026-11-11", `{}`}},
		{"the day elsewhere", `index: "logs-{date}", location: Asia/Shanghai`, `{}`, nil, document{"logs-2026-11-12", `{}`}},
		{"a value of the body", `index: "logs-{json:/k8s/service}-{date}"`, `{"k8s":{"service":"pay.v2_b"}}`, nil, document{"logs-pay.v2_b-2026-11-11", `{"k8s":{"service":"pay.v2_b"}}`}},
		{"a header field", `index: "{header:X-Service}"`, `{}`, []buffer.Field{{Name: "X-Service", Value: "cart"}}, document{"cart", `{}`}},
		{"the index of a bulk request", `index: "agents-{header:Forebay-Index}"`, `{}`, []buffer.Field{{Name: "Forebay-Index", Value: "logs"}}, document{"agents-logs", `{}`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newCluster(t)
			ms := messages(tt.body)
			ms[0].Header = tt.header
			got := newSink(t, policyOf(t, tt.keys, c.URL)).Deliver(t.Context(), ms)
			if want := []drain.Outcome{{Class: drain.Success, Status: 201}}; !cmp.Equal(got, want) {
				t.Errorf("outcomes = %+v, want %+v", got, want)
			}
			if got := c.doc("m0"); got != tt.want {
				t.Errorf("document = %+v\nwant %+v", got, tt.want)
			}
		})
	}
}

// A document has the id that a caller of _bulk gave to it, whatever stands in it, and is
// created once under it.
func TestCallersID(t *testing.T) {
	c := newCluster(t)
	s := newSink(t, policyOf(t, "index: logs", c.URL))
	id := `app-7 "\é/1`
	ms := messages(`{"n":1}`, `{"n":2}`, `{"n":3}`)
	for i := range ms[:2] {
		ms[i].Header = []buffer.Field{{Name: "Content-Type", Value: "application/json"}, {Name: "Forebay-Document-Id", Value: id}}
	}
	got := s.Deliver(t.Context(), ms)
	want := []drain.Outcome{{Class: drain.Success, Status: 201}, {Class: drain.Success, Status: 409}, {Class: drain.Success, Status: 201}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
	}
	if first, other := c.doc(id).text, c.doc("m2").text; first != `{"n":1}` || other != `{"n":3}` || len(c.docs) != 2 {
		t.Errorf("documents = %v, want n 1 under %q and n 3 under m2", c.docs, id)
	}
}

// What can be no document is buried with its reason, and holds up nothing that came with it.
func TestNoDocument(t *testing.T) {
	named := func(name string) string { return `{"s":` + name + `}` }
	tests := []struct{ name, body, want string }{
		{"no UTF-8", "{\"s\":\"a\",\"b\":\"\xff\"}", "invalid UTF-8: a document is text"},
		{"a text without the field", "GET / 200", "index: json:/s is not there"},
		{"an object", named(`{}`), "index: json:/s is not there"},
		{"a slash", named(`"a/b"`), `index: json:/s is "a/b", which no index can be named by`},
		{"up", named(`".."`), `index: json:/s is "..", which no index can be named by`},
		{"two dots", named(`"a..b"`), `index: json:/s is "a..b", which no index can be named by`},
		{"capitals", named(`"Pay"`), `index: json:/s is "Pay", which no index can be named by`},
		{"an underscore in front", named(`"_all"`), `index: json:/s is "_all", which no index can be named by`},
		{"a wildcard", named(`"*"`), `index: json:/s is "*", which no index can be named by`},
		{"a quote", named(`"a\"b"`), `index: json:/s is "a\"b", which no index can be named by`},
		{"too long", named(`"` + strings.Repeat("a", 300) + `"`), "index: its name is over 255 bytes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newCluster(t)
			s := newSink(t, policyOf(t, `index: "logs-{json:/s}"`, c.URL))
			got := s.Deliver(t.Context(), messages(named(`"a"`), tt.body, named(`7`)))
			success := drain.Outcome{Class: drain.Success, Status: 201}
			if want := []drain.Outcome{success, {Class: drain.Permanent, Error: tt.want}, success}; !cmp.Equal(got, want) {
				t.Errorf("outcomes differ (-want +got):\n%s", cmp.Diff(want, got))
			}
			if got := c.doc("m2").index; got != "logs-7" {
				t.Errorf("the message behind it went to %q", got)
			}
		})
	}
}

// Whatever a message is, its document is a line of JSON, that of an object the same as the message.
func FuzzDocument(f *testing.F) {
	for _, body := range []string{`{"a":"\u00e9"}`, "{\n}", "a\u2028b", "\x00", "{}x", `{"@timestamp":1}`, "\"\\", "{\"a\": [1, {\"b\": \"\n\"}]}"} {
		f.Add(body, true)
		f.Add(body, false)
	}
	f.Fuzz(func(t *testing.T, body string, timed bool) {
		c := newCluster(t)
		s := newSink(t, policyOf(t, fmt.Sprintf("index: logs, compression: none, data_stream: %v", timed), c.URL))
		out := s.Deliver(t.Context(), messages(body))[0]
		if out.Class == drain.Permanent && strings.HasPrefix(out.Error, "invalid UTF-8") {
			return
		}
		var sent, got map[string]any
		if err := json.Unmarshal([]byte(c.doc("m0").text), &got); err != nil {
			t.Fatalf("%q: document %q: %v; outcome %+v", body, c.doc("m0").text, err, out)
		}
		if json.Unmarshal([]byte(body), &sent) != nil || sent == nil {
			sent = map[string]any{"message": body, "@timestamp": "2026-11-11T23:30:00.005Z"}
		}
		if _, stamped := sent["@timestamp"]; timed && !stamped {
			sent["@timestamp"] = "2026-11-11T23:30:00.005Z"
		}
		if diff := cmp.Diff(sent, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", body, diff)
		}
	})
}
