package ingress

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"forebay/policies"
)

// FuzzBulk holds the cutting of bulk bodies to a slow account of it: lines that are not
// empty are an action, and the one behind it its document unless it deletes.
func FuzzBulk(f *testing.F) {
	for _, s := range []string{
		"", "{\"create\":{}}\n{}\n", "{\"index\":{\"_index\":\"a\",\"_id\":7}}\r\n{\"a\":[1]}\n\n{\"delete\":{\"_id\":\"x\"}}\n{\"update\":{}}\n{}", "{\"create\":null}\n\n",
		"{\"create\":{\"_id\":\"\\u0000\"}}\n{}\n", "{\"create\":{}}", "{\"create\":{},\"index\":{}}\n{}\n", "[]\n", "{\"create\":{\"_id\":1e400,\"routing\":null}}\n{}\n",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body string) {
		h := New(Config{Buffer: noBuffer{}, Policy: func() *policies.Set { return &policies.Set{} }}, nil, nil)
		s := &scratch{body: []byte(body)}
		items, msgs, err := h.cutBulk(s, "", 1<<20)
		if err != nil {
			return
		}
		lines := strings.Split(body, "\n")
		var stored int
		for _, item := range items {
			for strings.TrimSuffix(lines[0], "\r") == "" {
				lines = lines[1:]
			}
			var action map[string]json.RawMessage
			if err := json.Unmarshal([]byte(lines[0]), &action); err != nil || action[item.op] == nil {
				t.Fatalf("%q: %q is taken for %+v (%v)", body, lines[0], item, err)
			}
			document := ""
			if lines = lines[1:]; item.op != "delete" {
				document, lines = strings.TrimSuffix(lines[0], "\r"), lines[1:]
			}
			if item.fault != nil {
				continue
			}
			if stored == len(msgs) || string(msgs[stored].Body) != document || !json.Valid([]byte(document)) {
				t.Fatalf("%q: document %q is not message %d", body, document, stored)
			}
			stored++
		}
		if rest := strings.Trim(strings.Join(lines, ""), "\r"); rest != "" || stored != len(msgs) {
			t.Errorf("%q: %q is left, %d of %d messages are documents", body, rest, stored, len(msgs))
		}
	})
}

// BenchmarkBulk is a mebibyte of documents with ids, without the network and the buffer.
func BenchmarkBulk(b *testing.B) {
	for _, ids := range []bool{false, true} {
		b.Run(fmt.Sprintf("ids=%t", ids), func(b *testing.B) {
			set := parsePolicy(b, strings.Replace(testPolicy, "path: /v1/orders }, mode: buffer,", "path: /_bulk }, mode: buffer, split: bulk,", 1))
			set.Routes[0].MaxBody = 4 << 20
			h := New(Config{Buffer: noBuffer{}, Policy: func() *policies.Set { return set }, ETA: tenPerSecond}, slog.New(slog.DiscardHandler), nil)
			var text strings.Builder
			n := 0
			for ; text.Len() < 1<<20; n++ {
				id := ""
				if ids {
					id = fmt.Sprintf(`,"_id":"%020d"`, n)
				}
				fmt.Fprintf(&text, "{\"index\":{\"_index\":\"logs\"%s}}\n{\"message\":\"%s\",\"n\":%d}\n", id, strings.Repeat("a line of text ", 10), n)
			}
			r := request(b.Context(), "POST", "/_bulk", text.String(), "Content-Type: application/x-ndjson", "User-Agent: bench/1.0")
			content := &body{}
			r.Body = content
			w := &noWriter{header: http.Header{}}
			b.ReportAllocs()
			b.SetBytes(int64(text.Len()))
			for b.Loop() {
				content.Reset(text.String())
				clear(w.header)
				h.ServeHTTP(w, r)
			}
			b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "messages/s")
		})
	}
}
