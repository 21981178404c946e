package main_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
)

func compressed(t *testing.T, w io.WriteCloser, to *bytes.Buffer, text string) []byte {
	t.Helper()
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return to.Bytes()
}

func gzipped(t *testing.T, text string) []byte {
	var b bytes.Buffer
	return compressed(t, gzip.NewWriter(&b), &b, text)
}

func zstandard(t *testing.T, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	return compressed(t, w, &b, text)
}

// A batch that cannot be taken leaves nothing behind, and the next one is taken.
func TestBadBatches(t *testing.T) {
	t.Parallel()
	shop := newSink(t, nil)
	policy := clauses{route: "split: ndjson, max_body: 1MiB, max_inflated: 1MiB"}
	srv := newSite(t, policy.policy(shop.url, "200/s")).start()
	mega := strings.Repeat(`{"order":1}`+"\n", 1<<20/12)
	three := "{\"order\":1}\n{\"order\":2}\n{\"order\":3}\n"
	sound := gzipped(t, three)

	tests := []struct {
		name, encoding string
		body           []byte
		status         int
		problem        string
		line           int
	}{
		{"gzip bomb", "gzip", bytes.Repeat(gzipped(t, mega), 100), 413, "urn:forebay:problem:too-large", 0},
		{"zstd bomb", "zstd", bytes.Repeat(zstandard(t, mega), 100), 413, "urn:forebay:problem:too-large", 0},
		{"gzip cut short", "gzip", sound[:len(sound)-6], 400, "urn:forebay:problem:bad-request", 0},
		{"zstd cut short", "zstd", zstandard(t, three)[:12], 400, "urn:forebay:problem:bad-request", 0},
		{"bad line", "", []byte("{\"order\":1}\n\n{\"order\":\n{\"order\":3}\n"), 400, "urn:forebay:problem:bad-line", 3},
		{"bad line within gzip", "gzip", gzipped(t, three+"order 4\n"), 400, "urn:forebay:problem:bad-line", 4},
		{"unknown encoding", "br", []byte(three), 415, "urn:forebay:problem:unsupported-encoding", 0},
	}
	c := newCaller(t, 1)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if len(tt.body) > 1<<20 {
				t.Fatalf("the body has %d bytes, so that its own size would refuse it", len(tt.body))
			}
			r := postBatch(t, c, srv, tt.body, tt.encoding)
			if r.status != tt.status {
				t.Fatalf("status %d, want %d: %s", r.status, tt.status, r.body)
			}
			var p struct{ Line int }
			if err := json.Unmarshal(r.body, &p); err != nil || p.Line != tt.line {
				t.Errorf("line %d in %s (%v), want %d", p.Line, r.body, err, tt.line)
			}
			if got := problemType(t, r); got != tt.problem {
				t.Errorf("type %q, want %q", got, tt.problem)
			}
		})
	}
	if got := audit(t, srv); got.Accepted != 0 {
		t.Errorf("audit = %+v, want nothing accepted", got)
	}
	for _, body := range []struct {
		encoding string
		bytes    []byte
	}{{"gzip", sound}, {"zstd", zstandard(t, three)}} {
		if r := postBatch(t, c, srv, body.bytes, body.encoding); r.status != http.StatusAccepted {
			t.Errorf("a sound batch in %s = %d %s, want 202", body.encoding, r.status, r.body)
		}
	}
	if got := settle(t, srv, 10*time.Second); got.Delivered != 6 {
		t.Errorf("audit = %+v, want six delivered", got)
	}
}

func postBatch(t *testing.T, c *caller, srv *server, body []byte, encoding string) reply {
	t.Helper()
	fields := map[string]string{"Content-Type": "application/x-ndjson"}
	if encoding != "" {
		fields["Content-Encoding"] = encoding
	}
	r, err := c.send(http.MethodPost, srv.public+"/v1/orders", body, fields)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
