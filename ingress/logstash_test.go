package ingress

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"forebay/buffer"
	"forebay/policies"
)

// asLogstash is what logstash-output-http 6 writes to its connection for a batch of
// events with format => "json_batch", byte for byte: the fields that it sets, then those
// of the HTTP client below it (Manticore on Apache's).
func asLogstash(body []byte, zipped bool) []byte {
	encoding := ""
	if zipped {
		encoding = "Content-Encoding: gzip\r\n"
	}
	return append(fmt.Appendf(nil, "POST /v1/orders HTTP/1.1\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n"+
		"Host: forebay:8080\r\nConnection: Keep-Alive\r\nUser-Agent: Manticore 0.9.1\r\nAccept-Encoding: gzip,deflate\r\n\r\n", encoding, len(body)), body...)
}

// TestLogstash: batches of real lines, one after the other on a connection that is kept,
// arrive event for event; and a batch that finds no room is refused with what makes
// Logstash send it again.
func TestLogstash(t *testing.T) {
	text, err := os.ReadFile("../test/bench/testdata/logs/Apache.log")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimRight(string(text), "\r\n"), "\n")
	f := newFixture(t, splitting(policies.SplitJSONArray))
	send := logstash(t, f)
	var want []string
	for batch := range slices.Chunk(lines, 125) { // its pipeline.batch.size
		var events [][]byte
		for _, line := range batch {
			events = append(events, logEvent(t, line))
			want = append(want, string(events[len(events)-1]))
		}
		body := slices.Concat([]byte("["), bytes.Join(events, []byte(",")), []byte("]"))
		zipped := len(want)%250 == 0
		if zipped {
			body = gzipped(t, body)
		}
		if resp := send(body, zipped); resp.StatusCode != http.StatusAccepted {
			t.Fatalf("status %d, want 202", resp.StatusCode)
		}
	}
	var got []string
	for _, m := range f.buf.messages {
		got = append(got, string(m.Body))
	}
	if !slices.Equal(got, want) {
		t.Errorf("%d events are stored, and not those %d that were sent", len(got), len(want))
	}
	full := newFixture(t, splitting(policies.SplitJSONArray))
	full.buf.appendErr = buffer.ErrBufferFull // it sends again what is answered 429 or 5xx, and drops else
	if resp := logstash(t, full)([]byte("[{}]"), false); resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("status %d of a batch that finds no room, want 503", resp.StatusCode)
	}
}

// logstash is a connection that sends batches and reads their answers.
func logstash(t *testing.T, f *fixture) func(body []byte, zipped bool) *http.Response {
	c := serve(t, f)
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(c)
	return func(body []byte, zipped bool) *http.Response {
		t.Helper()
		if _, err := c.Write(asLogstash(body, zipped)); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(resp.Body)
		if err != nil || resp.Close {
			t.Fatalf("answer %s, %v; closes: %t", answer, err, resp.Close)
		}
		return resp
	}
}

// logEvent is what Logstash makes of a line of a file.
func logEvent(t *testing.T, line string) []byte {
	t.Helper()
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(map[string]any{
		"@version": "1", "@timestamp": "2026-11-25T10:00:00.123456Z", "message": strings.TrimSuffix(line, "\r"),
		"host": map[string]string{"name": "web-1"}, "log": map[string]any{"file": map[string]string{"path": "/var/log/apache2/error.log"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return bytes.TrimSpace(b.Bytes())
}
