package ingress

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"

	"forebay/buffer"
	"forebay/policies"
)

// batchAnswer is what a batch is answered with.
type batchAnswer struct {
	Accepted  int      `json:"accepted"`
	FirstID   string   `json:"first_id"`
	LastID    string   `json:"last_id"`
	Duplicate bool     `json:"duplicate"`
	IDs       []string `json:"ids"`
}

func splitting(split policies.Split) func(*Config) {
	return routes(func(create, _ *policies.Route) { create.Split = split })
}

func (f *fixture) orderID(offset uint64) string {
	return f.buf.ID(buffer.Ref{Stream: "orders", Offset: offset})
}

func TestBatchAccepted(t *testing.T) {
	f := newFixture(t, splitting(policies.SplitNDJSON))
	f.do("POST", "/v1/orders", "{}")
	resp := f.do("POST", "/v1/orders?shop=7", "{\"order\":1}\r\n\n{\"order\":2}\n",
		"Content-Type: application/x-ndjson", "Content-Digest: sha-256=:YQ==:", "X-Shop: 7", "X-Request-Id: abc",
		"Idempotency-Key: \"batch 7\"", "Authorization: Bearer x")
	if got := decode[batchAnswer](t, resp); !cmp.Equal(got, batchAnswer{Accepted: 2, FirstID: f.orderID(1), LastID: f.orderID(2)}) {
		t.Errorf("answer %+v, want messages 1 and 2", got)
	}
	wantHeader := http.Header{"Content-Type": {"application/json"}, "Vary": {"Prefer"}, "X-Request-Id": {"abc"}}
	if diff := cmp.Diff(wantHeader, resp.Header); diff != "" || resp.StatusCode != 202 {
		t.Errorf("status %d, header (-want +got):\n%s", resp.StatusCode, diff)
	}
	for i, got := range f.buf.messages[1:] {
		want := buffer.Message{
			Method: "POST", Target: "/v1/orders?shop=7", Body: fmt.Appendf(nil, `{"order":%d}`, i+1),
			Header: []buffer.Field{
				{Name: "Content-Type", Value: "application/json"},
				{Name: "Via", Value: "1.1 forebay"},
				{Name: "X-Forwarded-Host", Value: "example.com"},
				{Name: "X-Forwarded-Proto", Value: "http"},
				{Name: "X-Request-Id", Value: "abc"},
				{Name: "X-Shop", Value: "7"},
			},
			Batch: `"batch 7"`, Index: i,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("stored message %d (-want +got):\n%s", i, diff)
		}
	}
	wantCount(t, f, "create-order", decisionBuffered, "202", 2)
}

func TestBatchIDs(t *testing.T) {
	f := newFixture(t, splitting(policies.SplitLines))
	const n = 1000 // more than one write of the answer
	resp := f.do("POST", "/v1/orders", strings.Repeat("x\n", n), "Prefer: wait=3, return=representation", "Batch-Id: b/7")
	got := decode[batchAnswer](t, resp)
	if resp.StatusCode != 202 || got.Accepted != n || len(got.IDs) != n || resp.Header.Get("Preference-Applied") != "return=representation" {
		t.Fatalf("status %d, %d accepted, %d ids, header %v", resp.StatusCode, got.Accepted, len(got.IDs), resp.Header)
	}
	for i, id := range got.IDs {
		if id != f.orderID(uint64(i)) {
			t.Fatalf("id %d is %s, want %s", i, id, f.orderID(uint64(i)))
		}
	}
	last := f.buf.messages[n-1]
	for _, want := range []buffer.Field{
		{Name: "Content-Type", Value: "text/plain"}, {Name: "Forebay-Batch", Value: "b/7; index=999"}, {Name: "Batch-Id", Value: "b/7"},
	} {
		if !slices.Contains(last.Fields(), want) {
			t.Errorf("header of the last message %v, want %v in it", last.Fields(), want)
		}
	}
}

func TestBatchRefused(t *testing.T) {
	array := policies.SplitJSONArray
	long := strings.Repeat("x", 64<<10+1)
	tests := []struct {
		name   string
		split  policies.Split
		body   string
		header string
		want   problemDocument // its type without the prefix
	}{
		{"bad line", policies.SplitNDJSON, "1\n\n{\n4", "", problemDocument{Type: "bad-line", Status: 400, Line: 3, Detail: "line 3 is not JSON; nothing of the body was stored"}},
		{"long line", policies.SplitLines, "a\n" + long, "", problemDocument{Type: "bad-line", Status: 400, Line: 2, Detail: "line 2 is over 65536 bytes; nothing of the body was stored"}},
		{"bad element", array, "[1,2,{]", "", problemDocument{Type: "bad-line", Status: 400, Line: 3, Detail: "element 3 is not JSON; nothing of the body was stored"}},
		{"no array", array, "{}", "", problemDocument{Type: "bad-line", Status: 400, Line: 1, Detail: "element 1 is not there: the body is not a JSON array; nothing of the body was stored"}},
		{"long element", array, `["` + long + `"]`, "", problemDocument{Type: "bad-line", Status: 400, Line: 1, Detail: "element 1 is over 65536 bytes; nothing of the body was stored"}},
		{"deep line", policies.SplitNDJSON, "1\n" + strings.Repeat("[", 20_000) + "\n", "", problemDocument{Type: "bad-line", Status: 400, Line: 2, Detail: "line 2 is nested more than 10000 deep; nothing of the body was stored"}},
		{"deep element", array, strings.Repeat("[", 20_000), "", problemDocument{Type: "bad-line", Status: 400, Line: 1, Detail: "element 1 is nested more than 10000 deep; nothing of the body was stored"}},
		{"empty objects", array, "[" + strings.Repeat("{},", 330_000) + "{}]", "", problemDocument{Type: "too-large", Status: 413, Detail: "the body holds more messages than can be stored at once"}},
		{"gzip, undeclared", policies.SplitNDJSON, string(gzipped(t, []byte("1\n"))), "", problemDocument{Type: "bad-request", Status: 400, Detail: "the body is gzip, and there is no Content-Encoding: gzip"}},
		{"zstd, undeclared", array, string(zstdCompressed(t, []byte("[1]"))), "", problemDocument{Type: "bad-request", Status: 400, Detail: "the body is zstd, and there is no Content-Encoding: zstd"}},
		{"nothing", policies.SplitNDJSON, "\n\n", "", problemDocument{Type: "bad-request", Status: 400, Detail: "the body holds no messages"}},
		{"empty array", array, "[]", "", problemDocument{Type: "bad-request", Status: 400, Detail: "the body holds no messages"}},
		{"encoding", policies.SplitLines, "a", "Content-Encoding: br", problemDocument{Type: "unsupported-encoding", Status: 415, Detail: "this Content-Encoding is not supported here"}},
		{"two encodings", policies.SplitLines, "a", "Content-Encoding: gzip, zstd", problemDocument{Type: "unsupported-encoding", Status: 415, Detail: "a body that is compressed twice is not supported here"}},
		{"no gzip", policies.SplitLines, "no gzip at all", "Content-Encoding: gzip", problemDocument{Type: "bad-request", Status: 400, Detail: "the body is not valid gzip"}},
		{"no deflate", policies.SplitLines, "no deflate at all", "Content-Encoding: deflate", problemDocument{Type: "bad-request", Status: 400, Detail: "the body is not valid deflate"}},
		{"no zstd", policies.SplitLines, "no zstd at all", "Content-Encoding: zstd", problemDocument{Type: "bad-request", Status: 400, Detail: "the body is not valid zstd"}},
		{"Batch-Id", policies.SplitLines, "a", "Batch-Id: " + strings.Repeat("b", 256), problemDocument{Type: "bad-request", Status: 400, Detail: "Batch-Id is over 255 bytes"}},
		{"too many", policies.SplitLines, strings.Repeat("a\n", 500_000), "", problemDocument{Type: "too-large", Status: 413, Detail: "the body holds more messages than can be stored at once"}},
		{"body", policies.SplitLines, strings.Repeat("a", 1<<20+1), "", problemDocument{Type: "too-large", Status: 413, Detail: "the body is over 1048576 bytes"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t, splitting(tt.split))
			var header []string
			if tt.header != "" {
				header = []string{tt.header}
			}
			resp := f.do("POST", "/v1/orders", tt.body, header...)
			got := decode[problemDocument](t, resp)
			want := tt.want
			want.Type, want.Title, want.Instance, want.RequestID = problemPrefix+want.Type, got.Title, "/v1/orders", got.RequestID
			if diff := cmp.Diff(want, got); diff != "" || resp.StatusCode != want.Status {
				t.Errorf("status %d (-want +got):\n%s", resp.StatusCode, diff)
			}
			if accept := resp.Header.Get("Accept-Encoding"); (accept == "gzip, zstd, deflate") != (resp.StatusCode == 415) {
				t.Errorf("Accept-Encoding %q on a %d", accept, resp.StatusCode)
			}
			if len(f.buf.messages) != 0 || f.bodies.used.Load() != 0 {
				t.Errorf("%d messages stored, %d bytes of memory held", len(f.buf.messages), f.bodies.used.Load())
			}
		})
	}
}

func gzipped(t testing.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// deflated is in a frame of zlib, or bare.
func deflated(t testing.TB, b []byte, bare bool) []byte {
	t.Helper()
	var out bytes.Buffer
	var w io.WriteCloser = zlib.NewWriter(&out)
	if bare {
		var err error
		if w, err = flate.NewWriter(&out, flate.DefaultCompression); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func zstdCompressed(t testing.TB, b []byte, opts ...zstd.EOption) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil, append(opts, zstd.WithEncoderConcurrency(1))...)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(b, nil)
}

func TestBatchCompressed(t *testing.T) {
	const limit = 2 << 20
	f := newFixture(t, routes(func(create, _ *policies.Route) {
		create.Split, create.MaxInflated = policies.SplitLines, limit
	}))
	line := strings.Repeat("order ", 1000) + "\n"
	fits := []byte(strings.Repeat(line, limit/len(line)))
	bomb := make([]byte, limit+1)
	wide := bytes.Repeat([]byte("wide "), 3<<20)
	broken := func(b []byte) []byte {
		b = slices.Clone(b)
		b[len(b)-1] ^= 1
		return b
	}
	gz, zs := gzipped(t, fits), zstdCompressed(t, fits)
	zl, bare := deflated(t, fits, false), deflated(t, fits, true)
	tests := []struct {
		name, encoding string
		body           []byte
		status         int
		detail         string // of a problem, the beginning
	}{
		{"gzip", "gzip", gz, 202, ""},
		{"old name of gzip", "X-GZIP", gz, 202, ""},
		{"several members", "gzip", append(gzipped(t, []byte("a\n")), gz...), 202, ""},
		{"zstd", "zstd", zs, 202, ""},
		{"several frames", "identity, zstd", append(zstdCompressed(t, []byte("a\n")), zs...), 202, ""},
		{"zlib", "deflate", zl, 202, ""},
		{"bare deflate", "Deflate", bare, 202, ""},
		{"deflate bomb", "deflate", deflated(t, bomb, false), 413, "the body inflates to over 2097152 bytes"},
		{"bare deflate bomb", "deflate", deflated(t, bomb, true), 413, "the body inflates to over 2097152 bytes"},
		{"cut zlib", "deflate", zl[:len(zl)-3], 400, "the body ends before its deflate stream does"},
		{"cut bare deflate", "deflate", bare[:len(bare)-3], 400, "the body ends before its deflate stream does"},
		{"empty deflate", "deflate", nil, 400, "the body ends before its deflate stream does"},
		{"broken zlib", "deflate", broken(zl), 400, "the body is not valid deflate"},
		{"more behind zlib", "deflate", append(slices.Clone(zl), 'x'), 400, "the body is not valid deflate"},
		{"more behind bare deflate", "deflate", append(slices.Clone(bare), 'x'), 400, "the body is not valid deflate"},
		{"small", "zstd", zstdCompressed(t, []byte("a\n")), 202, ""},
		{"gzip bomb", "gzip", gzipped(t, bomb), 413, "the body inflates to over 2097152 bytes"},
		{"zstd bomb", "zstd", zstdCompressed(t, bomb), 413, "the body inflates to over 2097152 bytes"},
		{"cut gzip", "gzip", gz[:len(gz)-3], 400, "the body ends before its gzip stream does"},
		{"cut zstd", "zstd", zs[:len(zs)-3], 400, "the body ends before its zstd stream does"},
		{"cut gzip header", "gzip", gz[:5], 400, "the body ends before its gzip stream does"},
		{"empty gzip", "gzip", nil, 400, "the body ends before its gzip stream does"},
		{"broken gzip", "gzip", broken(gz), 400, "the body is not valid gzip"},
		{"broken zstd", "zstd", broken(zs), 400, "the body is not valid zstd"},
		{"more behind gzip", "gzip", append(slices.Clone(gz), "more of it"...), 400, "the body is not valid gzip"},
		{"zstd window", "zstd", zstdCompressed(t, wide, zstd.WithWindowSize(16<<20)), 400, "the body needs a zstd window over 8 MiB"},
	}
	for range 2 { // an inflater works on after any failure
		for _, tt := range tests {
			f.buf.messages = nil
			resp := f.do("POST", "/v1/orders", string(tt.body), "Content-Encoding: "+tt.encoding)
			if resp.StatusCode != tt.status {
				t.Errorf("%s: status %d, want %d", tt.name, resp.StatusCode, tt.status)
			}
			if tt.status != 202 {
				if got := decode[problemDocument](t, resp); got.Detail != tt.detail || len(f.buf.messages) > 0 {
					t.Errorf("%s: detail %q, %d stored; want %q", tt.name, got.Detail, len(f.buf.messages), tt.detail)
				}
			} else if m := f.buf.messages; len(m) == 0 || slices.ContainsFunc(m[0].Header, func(f buffer.Field) bool { return f.Name == "Content-Encoding" }) {
				t.Errorf("%s: %d stored, or a Content-Encoding with them", tt.name, len(m))
			}
			if f.bodies.used.Load() != 0 || len(f.inflaters) != cap(f.inflaters) {
				t.Errorf("%s: %d bytes held, %d of %d inflaters at rest", tt.name, f.bodies.used.Load(), len(f.inflaters), cap(f.inflaters))
			}
		}
	}
}

// TestBombByRatio: what a few bytes inflate to is refused before the limit of the route,
// and no more of it is inflated than is looked at.
func TestBombByRatio(t *testing.T) {
	f := newFixture(t, routes(func(create, _ *policies.Route) {
		create.Split, create.MaxInflated = policies.SplitLines, 32<<20
	}))
	bomb := bytes.Repeat([]byte("0"), 8<<20)
	for coding, body := range map[string][]byte{"gzip": gzipped(t, bomb), "zstd": zstdCompressed(t, bomb), "deflate": deflated(t, bomb, true)} {
		resp := f.do("POST", "/v1/orders", string(body), "Content-Encoding: "+coding)
		most := max(4<<20, 200*len(body))
		want := fmt.Sprintf("the body inflates to over %d bytes, which is over 4 MiB and over 200 times what was sent", most)
		if got := decode[problemDocument](t, resp); resp.StatusCode != 413 || got.Detail != want {
			t.Errorf("%s: status %d, detail %q; want 413, %q", coding, resp.StatusCode, got.Detail, want)
		}
	}
}

// TestBytesAreKept: a line arrives with every byte that it was sent with, be it UTF-8
// or not.
func TestBytesAreKept(t *testing.T) {
	for split, body := range map[policies.Split]string{
		policies.SplitLines: "\xff\xfe \x00\x1f", policies.SplitNDJSON: "{\"a\":\"\xff\xc3\"} ", policies.SplitJSONArray: "{\"a\" : \"\xff\xc3\"}",
	} {
		f := newFixture(t, splitting(split))
		sent := body
		if split == policies.SplitJSONArray {
			sent = "[" + body + "]"
		}
		if resp := f.do("POST", "/v1/orders", sent); resp.StatusCode != 202 || len(f.buf.messages) != 1 {
			t.Fatalf("%s: status %d, %d stored; want 202, 1", split, resp.StatusCode, len(f.buf.messages))
		}
		if got := string(f.buf.messages[0].Body); got != body {
			t.Errorf("%s: stored %q, want %q", split, got, body)
		}
	}
}

// TestAgentsInOrder: the lines of each of several agents, who post at a time, lie in the
// order in which they were posted.
func TestAgentsInOrder(t *testing.T) {
	const agents, batches, lines = 8, 20, 10
	f := newFixture(t, splitting(policies.SplitLines))
	var wg sync.WaitGroup
	for agent := range agents {
		wg.Go(func() {
			for batch := range batches {
				var body []byte
				for line := range lines {
					body = fmt.Appendf(body, "%d %d\n", agent, batch*lines+line)
				}
				if resp := f.do("POST", "/v1/orders", string(body)); resp.StatusCode != 202 {
					t.Errorf("agent %d: status %d, want 202", agent, resp.StatusCode)
				}
			}
		})
	}
	wg.Wait()
	all, _, err := f.buf.Take("orders-to-service", time.Now(), agents*batches*lines)
	if err != nil || len(all) != agents*batches*lines {
		t.Fatalf("took %d, %v; want %d", len(all), err, agents*batches*lines)
	}
	next := map[string]int{}
	for _, d := range all {
		agent, line, _ := strings.Cut(string(d.Message.Body), " ")
		if line != strconv.Itoa(next[agent]) {
			t.Fatalf("line %s of agent %s lies where %d should", line, agent, next[agent])
		}
		next[agent]++
	}
}

// TestPlainIsNotInflated holds that a body that is one message stays as sent.
func TestPlainIsNotInflated(t *testing.T) {
	f := newFixture(t)
	resp := f.do("POST", "/v1/orders", "not gzip", "Content-Encoding: gzip")
	want := buffer.Field{Name: "Content-Encoding", Value: "gzip"}
	if resp.StatusCode != 202 || string(f.buf.messages[0].Body) != "not gzip" || f.buf.messages[0].Header[0] != want {
		t.Errorf("status %d, stored %+v", resp.StatusCode, f.buf.messages)
	}
}

func TestBatchSentAgain(t *testing.T) {
	for _, field := range []string{"Idempotency-Key", "Batch-Id"} {
		f := newFixture(t, splitting(policies.SplitNDJSON))
		send := func(body string, header ...string) *http.Response {
			return f.do("POST", "/v1/orders", body, append(header, field+": b-7", "Prefer: return=representation")...)
		}
		first := decode[batchAnswer](t, send("1\n2\n"))
		f.order()
		for _, again := range []*http.Response{send("1\n2\n"), send(string(gzipped(t, []byte("1\n2\n"))), "Content-Encoding: gzip")} {
			got := decode[batchAnswer](t, again)
			want := first
			want.Duplicate = true
			if diff := cmp.Diff(want, got); diff != "" || again.StatusCode != 202 || again.Header.Get("Idempotent-Replayed") != "true" {
				t.Errorf("%s: status %d, header %v (-want +got):\n%s", field, again.StatusCode, again.Header, diff)
			}
		}
		if resp := send("1\n3\n"); resp.StatusCode != 422 || len(f.buf.messages) != 3 {
			t.Errorf("%s: other content: status %d, %d stored; want 422, 3", field, resp.StatusCode, len(f.buf.messages))
		}
		wantCount(t, f, "create-order", decisionReplayed, "202", 2)
	}
}

func TestBatchLargerThanTheBufferTakes(t *testing.T) {
	f := newFixture(t, splitting(policies.SplitLines))
	f.buf.appendErr = buffer.ErrTooLarge
	got := decode[problemDocument](t, f.do("POST", "/v1/orders", "a\nb"))
	if got.Status != 413 || got.Detail != "the body holds more messages than can be stored at once" {
		t.Errorf("problem %+v, want 413 about the batch", got)
	}
}

// TestBatchAllocations holds that what a batch allocates does not grow with
// the number of its messages.
func TestBatchAllocations(t *testing.T) {
	set := parsePolicy(t, testPolicy)
	for _, split := range []policies.Split{policies.SplitNDJSON, policies.SplitLines, policies.SplitJSONArray, policies.SplitBulk} {
		target := "/v1/orders"
		if set.Routes[0].Split = split; split == policies.SplitBulk {
			set = parsePolicy(t, strings.Replace(testPolicy, "path: /v1/orders }, mode: buffer,", "path: /_bulk }, mode: buffer, split: bulk,", 1))
			target = "/_bulk"
		}
		h := New(Config{
			Buffer: noBuffer{}, Policy: func() *policies.Set { return set }, ETA: tenPerSecond,
		}, nil, nil)
		const n = 2000
		text := strings.TrimSuffix(strings.Repeat(`{"customer_id":"c-1","sku":"s-1"},`+"\n", n), ",\n")
		switch split {
		case policies.SplitJSONArray:
			text = "[" + text + "]"
		case policies.SplitBulk:
			text = strings.ReplaceAll("{\"create\":{\"_index\":\"logs\"}}\n"+text, ",\n", "\n{\"create\":{\"_index\":\"logs\"}}\n")
		default:
			text = strings.ReplaceAll(text, ",\n", "\n")
		}
		r := request(t.Context(), "POST", target, text)
		content := &body{}
		r.Body = content
		w := &noWriter{header: http.Header{}}
		got := testing.AllocsPerRun(20, func() {
			content.Reset(text)
			clear(w.header)
			h.ServeHTTP(w, r)
		})
		if got > 0.05*n {
			t.Errorf("%s: %.0f allocations for %d messages, want at most 0.05 each", split, got, n)
		}
	}
}
