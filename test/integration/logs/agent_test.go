package logs_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"forebay/test/integration/parts"
)

const batchLines = 1000

// The reasons for which a line can be no document.
const (
	conflict = "failed to parse field [n] of type [integer]"
	noUTF8   = "invalid UTF-8: a document is text"
)

// A posted line is what was accepted. fault is empty, or why it can be no document.
type posted struct{ text, fault string }

// site is what all agents share: where they post, and what was accepted from them.
type site struct {
	*parts.Forebay
	t    *testing.T
	logs []string // real lines

	mu  sync.Mutex
	got map[string]posted // by _id; guarded by mu
}

func newSite(t *testing.T, policy string) *site {
	t.Helper()
	s := &site{t: t, got: make(map[string]posted)}
	files, err := filepath.Glob("../../bench/testdata/logs/*.log")
	if err != nil || len(files) < 3 {
		t.Fatalf("the logs are %v (%v), want three", files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		s.logs = append(s.logs, strings.Split(strings.TrimSpace(string(text)), "\n")...)
	}
	s.Forebay = parts.StartForebay(t, policy, parts.ForebayOptions{})
	return s
}

// batch makes lines with ids that no others have, each of so many real ones. Some can be
// no document.
func (s *site) batch(name string, real int) (lines []posted) {
	for n := range batchLines {
		from := n * real % (len(s.logs) - real)
		message, err := json.Marshal(strings.Join(s.logs[from:from+real], "\n"))
		if err != nil {
			s.t.Fatal(err)
		}
		number, fault := fmt.Sprint(n), ""
		switch n % 250 {
		case 100:
			number, fault = `"no number"`, conflict
		case 200:
			message, fault = []byte("\"\xff\xfe\""), noUTF8
		}
		lines = append(lines, posted{fmt.Sprintf(`{"id":"%s-%04d","n":%s,"message":%s}`, name, n, number, message), fault})
	}
	return lines
}

// An encoding compresses a body.
type encoding string

func (e encoding) pack(t *testing.T, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser = gzip.NewWriter(&b)
	if e == "zstd" {
		var err error
		if w, err = zstd.NewWriter(&b); err != nil {
			t.Error(err)
		}
	}
	_, err := io.WriteString(w, text)
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Error(err)
	}
	return b.Bytes()
}

func text(lines []posted) string {
	var b strings.Builder
	for _, line := range lines {
		b.WriteString(line.text)
		b.WriteByte('\n')
	}
	return b.String()
}

// A delivery is a batch on its way. body is how it is sent the first time: nil, as it is.
type delivery struct {
	encoding
	name  string
	lines []posted
	body  func(packed []byte) io.Reader
}

// receipt is the answer to a batch.
type receipt struct {
	Accepted  int      `json:"accepted"`
	Duplicate bool     `json:"duplicate"`
	IDs       []string `json:"ids"`
}

// post sends a batch until it is accepted, as agents do who hear no answer, and tells how
// long the request lasted that was.
func (s *site) post(d delivery) (r receipt, took time.Duration) {
	packed := d.pack(s.t, text(d.lines))
	for first := true; ; first = false {
		body := io.Reader(bytes.NewReader(packed))
		if first && d.body != nil {
			body = d.body(packed)
		}
		began := time.Now()
		status, answer := s.send(d.encoding, d.name, body, len(packed))
		took = time.Since(began)
		switch {
		case status == http.StatusAccepted:
			if err := json.Unmarshal(answer, &r); err != nil || r.Accepted != len(d.lines) || len(r.IDs) != len(d.lines) {
				s.t.Errorf("batch %s: the answer is %.200s (%v)", d.name, answer, err)
				return r, took
			}
			s.keep(r.IDs, d.lines)
			return r, took
		case status != 0 && status != http.StatusServiceUnavailable && status != http.StatusConflict:
			s.t.Errorf("batch %s: status %d: %s", d.name, status, answer)
			return r, took
		}
		select {
		case <-s.t.Context().Done():
			return r, took
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// keep notes what was accepted, and under which ids.
func (s *site) keep(ids []string, lines []posted) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, id := range ids {
		if before, there := s.got[id]; there && before != lines[i] {
			s.t.Errorf("%s is the id of %q and of %q", id, before.text, lines[i].text)
		}
		s.got[id] = lines[i]
	}
}

// client follows nothing and tries nothing again by itself.
var client = http.Client{Timeout: time.Minute}

// send posts a body once. Without an answer the status is 0.
func (s *site) send(e encoding, name string, body io.Reader, size int) (status int, answer []byte) {
	req, err := http.NewRequest(http.MethodPost, s.Public+"/v1/logs", io.NopCloser(body))
	if err != nil {
		s.t.Error(err)
		return 0, nil
	}
	req.ContentLength = int64(size)
	for name, value := range map[string]string{"Content-Type": "application/x-ndjson", "Content-Encoding": string(e), "Batch-Id": name, "Prefer": "return=representation"} {
		req.Header.Set(name, value)
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil
	}
	defer resp.Body.Close()
	if answer, err = io.ReadAll(resp.Body); err != nil {
		return 0, nil
	}
	return resp.StatusCode, answer
}

// agents are those that behave: half of them gzip, half zstd.
const agents = 20

func delivered(agent int, batch string, lines []posted) delivery {
	return delivery{encoding: [...]encoding{"gzip", "zstd"}[agent%2], name: batch, lines: lines}
}

// round has every agent post a batch at the same time, and returns how long each took.
func (s *site) round(name string) (took []time.Duration) {
	took = make([]time.Duration, agents)
	var all sync.WaitGroup
	for a := range agents {
		batch := fmt.Sprintf("%s-agent%02d", name, a)
		d := delivered(a, batch, s.batch(batch, 1))
		all.Go(func() { _, took[a] = s.post(d) })
	}
	all.Wait()
	return took
}
