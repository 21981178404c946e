package ingress

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"forebay/buffer"
	"forebay/policies"
)

// bulkAnswer is what clients of Elasticsearch read.
type bulkAnswer struct {
	Took   int                  `json:"took"`
	Errors bool                 `json:"errors"`
	Items  []map[string]outcast `json:"items"`
}

type outcast struct {
	Index   string     `json:"_index"`
	ID      *string    `json:"_id"`
	Version int        `json:"_version"`
	Result  string     `json:"result"`
	Status  int        `json:"status"`
	Error   *bulkError `json:"error"`
}

type bulkError struct{ Type, Reason string }

// newBulk has a bulk route at /es.
func newBulk(t *testing.T, change ...func(*Config)) *fixture {
	t.Helper()
	set := parsePolicy(t, strings.Replace(testPolicy, "path: /v1/orders }, mode: buffer,", "path: /es/_bulk }, mode: buffer, split: bulk,", 1))
	return newFixture(t, append([]func(*Config){func(c *Config) { c.Policy = func() *policies.Set { return set } }}, change...)...)
}

// say is an item as a line: what a test has to tell about it.
func say(items []map[string]outcast) (lines []string) {
	for _, item := range items {
		for op, o := range item {
			line := fmt.Sprintf("%s %s %d", op, o.Index, o.Status)
			if o.Error != nil {
				line += " " + o.Error.Type + ": " + o.Error.Reason
			} else {
				line += " " + o.Result
			}
			lines = append(lines, line)
		}
	}
	return lines
}

func TestBulkItems(t *testing.T) {
	const created = " 201 created"
	tests := []struct {
		name, path, body string
		want, stored     []string
	}{
		{"create", "/es/_bulk", "{\"create\":{\"_index\":\"logs\"}}\n{\"a\":1}\n", []string{"create logs" + created}, []string{`{"a":1}`}},
		{"CRLF, empty lines, no last newline", "/es/_bulk", "\n{\"index\":{\"_index\":\"logs\"}}\r\n{\"a\":1}\r\n\n{\"create\":{\"_index\":\"x\"}}\n{\"b\":\"\xff\"}", []string{"index logs" + created, "create x" + created}, []string{`{"a":1}`, "{\"b\":\"\xff\"}"}},
		{"index of the path", "/es/logs/_bulk", "{\"create\":{}}\n{}\n{\"create\":{\"_index\":\"own\"}}\n{}\n", []string{"create logs" + created, "create own" + created}, []string{"{}", "{}"}},
		{"no index", "/es/_bulk", "{\"create\":{}}\n{}\n", []string{"create orders" + created}, []string{"{}"}},
		{"as Logstash writes it", "/es/_bulk", "{\"index\":{\"_id\":null,\"_index\":\"logs\",\"routing\":null,\"_type\":\"_doc\",\"require_alias\":false}}\n{}\n", []string{"index logs" + created}, []string{"{}"}},
		{"spaces and escapes", "/es/_bulk", " { \"cr\\u0065ate\" : { \"_\\u0069ndex\" : \"l\\u006fgs\" , \"_type\" : \"_doc\" } } \n{}\n", []string{"create logs" + created}, []string{"{}"}},
		{
			"refused among others", "/es/logs/_bulk", "{\"create\":{}}\n{\"n\":1}\n{\"update\":{\"_id\":\"7\"}}\n{\"doc\":{}}\n{\"delete\":{\"_id\":\"7\"}}\n{\"create\":{}}\n{\"n\":\n{\"create\":{}}\n[2]\n{\"create\":{}}\n{\"n\":3}\n",
			[]string{
				"create logs" + created,
				"update logs 400 illegal_argument_exception: update is not supported here: documents are only created",
				"delete logs 400 illegal_argument_exception: delete is not supported here: documents are only created",
				"create logs 400 mapper_parsing_exception: the document is not JSON",
				"create logs 400 mapper_parsing_exception: the document is no JSON object",
				"create logs" + created,
			},
			[]string{`{"n":1}`, `{"n":3}`},
		},
		{"all refused", "/es/logs/_bulk", "{\"delete\":{\"_id\":\"7\"}}\n", []string{"delete logs 400 illegal_argument_exception: delete is not supported here: documents are only created"}, nil},
		{"empty document", "/es/logs/_bulk", "{\"create\":{}}\n\n{\"create\":{}}\n{}\n", []string{"create logs 400 mapper_parsing_exception: the document is not JSON", "create logs" + created}, []string{"{}"}},
		{"deep document", "/es/logs/_bulk", "{\"create\":{}}\n" + strings.Repeat("[", 20_000) + "\n", []string{"create logs 400 mapper_parsing_exception: the document is nested more than 10000 deep"}, nil},
		{"long document", "/es/logs/_bulk", "{\"create\":{}}\n{\"a\":\"" + strings.Repeat("x", 64<<10) + "\"}\n", []string{"create logs 400 illegal_argument_exception: the document is over 65536 bytes"}, nil},
		{"routing", "/es/logs/_bulk", "{\"index\":{\"routing\":\"a\"}}\n{}\n", []string{"index logs 400 illegal_argument_exception: routing is not supported here: of an action _index and _id are kept"}, nil},
		{"a field without a name", "/es/logs/_bulk", "{\"index\":{\"\":null,\"routing\":\"a\"}}\n{}\n", []string{"index logs 400 illegal_argument_exception: routing is not supported here: of an action _index and _id are kept"}, nil},
		{"index no string", "/es/logs/_bulk", "{\"index\":{\"_index\":7}}\n{}\n", []string{"index logs 400 illegal_argument_exception: _index is no string"}, nil},
		{"_id no string", "/es/logs/_bulk", "{\"index\":{\"_id\":[7]}}\n{}\n", []string{"index logs 400 illegal_argument_exception: _id is neither a string nor a number"}, nil},
		{"empty _id", "/es/logs/_bulk", "{\"index\":{\"_id\":\"\"}}\n{}\n", []string{"index logs 400 illegal_argument_exception: _id is empty"}, nil},
		{"long _id", "/es/logs/_bulk", "{\"index\":{\"_id\":\"" + strings.Repeat("x", 513) + "\"}}\n{}\n", []string{"index logs 400 illegal_argument_exception: _id is over 512 bytes"}, nil},
		{"_id of two lines", "/es/logs/_bulk", "{\"index\":{\"_id\":\"a\\nForebay-Id: b\"}}\n{}\n", []string{"index logs 400 illegal_argument_exception: _id has a control character, or a space at its end"}, nil},
	}
	for _, name := range []string{"..", "a/b", "_a", "Logs", "a b", "a\\r", "<logs-{now/d}>", strings.Repeat("x", 256)} {
		tests = append(tests, struct {
			name, path, body string
			want, stored     []string
		}{"index " + name, "/es/_bulk", "{\"create\":{\"_index\":\"" + name + "\"}}\n{}\n", []string{
			"create " + strings.ReplaceAll(name, "\\r", "\r") + " 400 invalid_index_name_exception: the index is not named in small letters, digits and ._-+, or is over 255 bytes",
		}, nil})
	}
	for _, tt := range tests {
		f := newBulk(t)
		resp := f.do("POST", tt.path, tt.body)
		if resp.StatusCode != 200 || resp.Header.Get("X-Elastic-Product") != "Elasticsearch" || resp.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: status %d, header %v", tt.name, resp.StatusCode, resp.Header)
		}
		got := decode[bulkAnswer](t, resp)
		if diff := cmp.Diff(tt.want, say(got.Items)); diff != "" {
			t.Errorf("%s: items (-want +got):\n%s", tt.name, diff)
		}
		if got.Errors != (len(tt.stored) < len(tt.want)) {
			t.Errorf("%s: errors %t, want it where one is refused", tt.name, got.Errors)
		}
		var stored []string
		for _, m := range f.buf.messages {
			stored = append(stored, string(m.Body))
		}
		if diff := cmp.Diff(tt.stored, stored); diff != "" {
			t.Errorf("%s: stored (-want +got):\n%s", tt.name, diff)
		}
		if f.bodies.used.Load() != 0 {
			t.Errorf("%s: %d bytes of memory held", tt.name, f.bodies.used.Load())
		}
	}
}

// TestBulkStored: what a message has of its action, and of its request.
func TestBulkStored(t *testing.T) {
	f := newBulk(t)
	f.do("POST", "/es/_bulk", "{\"create\":{}}\n{}\n")
	body := "{\"create\":{\"_index\":\"logs\"}}\n{\"n\":0}\n{\"delete\":{}}\n{\"create\":{\"_index\":\"logs\"}}\n{\"n\":2}\n{\"index\":{\"_index\":\"logs\",\"_id\":\"a b\"}}\n{\"n\":3}\n{\"index\":{\"_index\":\"logs\",\"_id\":7}}\n{\"n\":4}\n"
	resp := f.do("POST", "/es/_bulk?x=1", body, "Content-Type: application/x-ndjson", "X-Request-Id: abc", "Authorization: Basic x", "Forebay-Index: forged")
	got := decode[bulkAnswer](t, resp)
	var ids []string
	for _, item := range got.Items {
		for _, o := range item {
			if o.ID != nil {
				ids = append(ids, *o.ID)
			}
		}
	}
	if diff := cmp.Diff([]string{f.orderID(1), f.orderID(2), "a b", "7"}, ids); diff != "" {
		t.Errorf("ids (-want +got):\n%s", diff)
	}
	of := func(index int, id ...string) buffer.Message {
		m := buffer.Message{Method: "POST", Target: "/es/_bulk?x=1", Body: fmt.Appendf(nil, `{"n":%d}`, index), Batch: "abc", Index: index}
		m.Header = []buffer.Field{{Name: "Content-Type", Value: "application/json"}}
		for _, id := range id {
			m.Header = append(m.Header, buffer.Field{Name: "Forebay-Document-Id", Value: id})
		}
		m.Header = append(m.Header, buffer.Field{Name: "Forebay-Index", Value: "logs"}, buffer.Field{Name: "Via", Value: "1.1 forebay"},
			buffer.Field{Name: "X-Forwarded-Host", Value: "example.com"}, buffer.Field{Name: "X-Forwarded-Proto", Value: "http"}, buffer.Field{Name: "X-Request-Id", Value: "abc"})
		return m
	}
	want := []buffer.Message{of(0), of(2), of(3, "a b"), of(4, "7")}
	if diff := cmp.Diff(want, f.buf.messages[1:], cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
	wantCount(t, f, "create-order", decisionBuffered, "200", 2)
}

func TestBulkRefused(t *testing.T) {
	bad := func(line int, fault string) problemDocument {
		return problemDocument{Type: problemPrefix + "bad-line", Status: 400, Line: line, Detail: fmt.Sprintf("line %d %s; nothing of the body was stored", line, fault)}
	}
	const fine = "{\"create\":{}}\n{}\n"
	tests := []struct {
		name, body string
		err        error
		want       problemDocument
	}{
		{"no action", fine + "{}\n{}\n", nil, bad(3, `is no action such as {"create":{}}`)},
		{"two actions", "{\"create\":{},\"index\":{}}\n{}\n", nil, bad(1, `is no action such as {"create":{}}`)},
		{"no JSON", fine + "\n{\"create\n", nil, bad(4, `is no action such as {"create":{}}`)},
		{"unknown action", "{\"upsert\":{}}\n{}\n", nil, bad(1, "is no action: it is none of create, index, update and delete")},
		{"no UTF-8", "{\"create\":{\"_id\":\"\xff\"}}\n{}\n", nil, bad(1, "is an action that is not UTF-8")},
		{"no document", fine + "{\"create\":{}}\n", nil, bad(3, "is an action without a document behind it")},
		{"an action without a name", "{\"\":{}}\n{}\n", nil, bad(1, "is no action: it is none of create, index, update and delete")},
		{"an array", "[{}]\n{}\n", nil, bad(1, `is no action such as {"create":{}}`)},
		{"an action that is no object", "{\"create\":7}\n{}\n", nil, bad(1, `is no action such as {"create":{}}`)},
		{"nothing", "\n\n", nil, problemDocument{Type: problemPrefix + "bad-request", Status: 400, Detail: "the body holds no actions"}},
		{"lines without end", strings.Repeat("\n", 1<<20), nil, problemDocument{Type: problemPrefix + "too-large", Status: 413, Detail: "the body holds more messages than can be stored at once"}},
		{"full", fine, buffer.ErrBufferFull, problemDocument{Type: problemCapacity, Status: 503, Reason: "buffer-full", Detail: "the stream has reached its size limit"}},
		{"overloaded", fine, buffer.ErrOverloaded, problemDocument{Type: problemCapacity, Status: 503, Reason: "overloaded", Detail: "the memory for requests in flight is in use"}},
		{"broken", fine, errors.New("the disk is gone"), problemDocument{Type: problemPrefix + "internal", Status: 500, Detail: problemInternal().detail}},
	}
	for _, tt := range tests {
		f := newBulk(t)
		f.buf.appendErr = tt.err
		resp := f.do("POST", "/es/_bulk", tt.body)
		got := decode[problemDocument](t, resp)
		want := tt.want
		want.Title, want.Instance, want.RequestID, want.RetryAfter = got.Title, "/es/_bulk", got.RequestID, got.RetryAfter
		if diff := cmp.Diff(want, got); diff != "" || resp.StatusCode != want.Status {
			t.Errorf("%s: status %d (-want +got):\n%s", tt.name, resp.StatusCode, diff)
		}
		if wait := resp.Header.Get("Retry-After"); (wait != "") != (resp.StatusCode == 503) {
			t.Errorf("%s: Retry-After %q on a %d", tt.name, wait, resp.StatusCode)
		}
		if resp.Header.Get("X-Elastic-Product") != "Elasticsearch" || len(f.buf.messages) != 0 || f.bodies.used.Load() != 0 {
			t.Errorf("%s: header %v, %d stored, %d bytes held", tt.name, resp.Header, len(f.buf.messages), f.bodies.used.Load())
		}
	}
}

// TestBulkHello: a client that asks what it talks to is told, wherever it sends to.
func TestBulkHello(t *testing.T) {
	f := newBulk(t)
	for _, path := range []string{"/es", "/es/"} {
		resp := f.do("GET", path, "")
		hello := decode[map[string]any](t, resp)
		if version, _ := hello["version"].(map[string]any); resp.StatusCode != 200 || version["number"] != "7.17.28" || version["build_flavor"] != "default" || hello["tagline"] != "You Know, for Search" {
			t.Errorf("GET %s: status %d, %v", path, resp.StatusCode, hello)
		}
		if resp.Header.Get("X-Elastic-Product") != "Elasticsearch" {
			t.Errorf("GET %s: header %v", path, resp.Header)
		}
		if resp := f.do("HEAD", path, ""); resp.StatusCode != 200 {
			t.Errorf("HEAD %s: status %d, want 200", path, resp.StatusCode)
		}
	}
	for path, want := range map[string]int{"/": 404, "/es/_license": 404, "/es/_bulk": 405} {
		if resp := f.do("GET", path, ""); resp.StatusCode != want {
			t.Errorf("GET %s: status %d, want %d", path, resp.StatusCode, want)
		}
	}
}

// TestBulkProblemsAreRead: clients from version 8 on cannot read another type.
func TestBulkProblemsAreRead(t *testing.T) {
	f := newBulk(t)
	f.buf.appendErr = buffer.ErrBufferFull
	for accept, want := range map[string]string{
		"application/vnd.elasticsearch+json; compatible-with=8": "application/json", "application/json": "application/problem+json", "*/*": "application/problem+json",
	} {
		resp := f.do("POST", "/es/_bulk", "{\"create\":{}}\n{}\n", "Accept: "+accept)
		if got := resp.Header.Get("Content-Type"); resp.StatusCode != 503 || got != want {
			t.Errorf("Accept %q: status %d, type %q; want 503, %q", accept, resp.StatusCode, got, want)
		}
	}
}

// TestBulkHelloIsNotLimited: or a client that asks first would have used up what it asks for.
func TestBulkHelloIsNotLimited(t *testing.T) {
	policy := strings.Replace(testPolicy, "path: /v1/orders }, mode: buffer,", "path: /es/_bulk }, mode: buffer, split: bulk, limits: [few],", 1) + "limits: [{ name: few, rate: 1/m, burst: 1 }]\n"
	set := parsePolicy(t, policy)
	f := newFixture(t, func(c *Config) { c.Policy = func() *policies.Set { return set } })
	for range 3 {
		if resp := f.do("GET", "/es", ""); resp.StatusCode != 200 {
			t.Errorf("GET: status %d, want 200", resp.StatusCode)
		}
	}
	for _, want := range []int{200, 429} {
		resp := f.do("POST", "/es/_bulk", "{\"create\":{}}\n{}\n")
		if resp.StatusCode != want || (want == 429) != (resp.Header.Get("Retry-After") != "") {
			t.Errorf("POST: status %d, header %v; want %d", resp.StatusCode, resp.Header, want)
		}
	}
}

// TestBulkSentAgain: a body that only creates documents with ids is stored once, and so
// is any with a key; each is answered as it was.
func TestBulkSentAgain(t *testing.T) {
	tests := []struct {
		name, body, header string
		once               bool
	}{
		{"created with ids", "{\"create\":{\"_id\":\"1\"}}\n{\"n\":1}\n{\"create\":{\"_id\":\"2\"}}\n{\"n\":\n{\"create\":{\"_id\":\"3\"}}\n{\"n\":3}\n", "", true},
		{"one without", "{\"create\":{\"_id\":\"1\"}}\n{\"n\":1}\n{\"create\":{}}\n{\"n\":2}\n", "", false},
		{"indexed with ids", "{\"index\":{\"_id\":\"1\"}}\n{\"n\":1}\n{\"index\":{\"_id\":\"2\"}}\n{\"n\":2}\n", "", false},
		{"with a key", "{\"index\":{}}\n{\"n\":1}\n{\"index\":{}}\n{\"n\":2}\n", "Batch-Id: b-7", true},
	}
	for _, tt := range tests {
		f := newBulk(t)
		var header []string
		if tt.header != "" {
			header = append(header, tt.header)
		}
		first, again := f.do("POST", "/es/_bulk", tt.body, header...), f.do("POST", "/es/_bulk", tt.body, header...)
		if got := again.Header.Get("Idempotent-Replayed") == "true"; again.StatusCode != 200 || got != tt.once {
			t.Errorf("%s: status %d, replayed %t, want %t", tt.name, again.StatusCode, got, tt.once)
		}
		want := 4
		if tt.once {
			want = 2
		}
		if len(f.buf.messages) != want {
			t.Errorf("%s: %d stored, want %d", tt.name, len(f.buf.messages), want)
		}
		one, two := decode[bulkAnswer](t, first), decode[bulkAnswer](t, again)
		if diff := cmp.Diff(one.Items, two.Items); tt.once && diff != "" {
			t.Errorf("%s: sent again (-first +second):\n%s", tt.name, diff)
		}
	}
}

// TestBulkReplayOfAnotherPolicy: what a smaller max_message_bytes has refused by now has
// no place among the first answer's messages.
func TestBulkReplayOfAnotherPolicy(t *testing.T) {
	f := newBulk(t)
	body := "{\"create\":{\"_id\":\"1\"}}\n{\"note\":\"" + strings.Repeat("x", 100) + "\"}\n{\"create\":{\"_id\":\"2\"}}\n{}\n"
	f.do("POST", "/es/_bulk", body)
	f.cfg.Policy().Streams[0].MaxMessageBytes = 50
	if resp := f.do("POST", "/es/_bulk", body); resp.StatusCode != http.StatusUnprocessableEntity || len(f.buf.messages) != 2 {
		t.Errorf("status %d, %d stored; want 422, 2", resp.StatusCode, len(f.buf.messages))
	}
}
