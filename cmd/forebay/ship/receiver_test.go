package ship

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// receiver stores each batch once, as a route that splits does.
type receiver struct {
	t   *testing.T
	url *url.URL

	mu      sync.Mutex
	answer  func(n int, body string) (status int, header, text string) // status 0: stored
	n       int                                                        // requests
	names   map[string]string                                          // bodies by name
	lines   map[string][]string                                        // by the file's name
	order   []string                                                   // files, as batches of them came
	headers []http.Header
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{t: t, names: map[string]string{}, lines: map[string][]string{}}
	srv := httptest.NewServer(r)
	t.Cleanup(srv.Close)
	var err error
	if r.url, err = url.Parse(srv.URL + "/v1/logs"); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body := unpack(r.t, req)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.n++
	r.headers = append(r.headers, req.Header)
	status, header, text := 0, "", ""
	if r.answer != nil {
		status, header, text = r.answer(r.n, body)
	}
	if status != 0 {
		if name, value, ok := strings.Cut(header, ": "); ok {
			w.Header().Set(name, value)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text)
		return
	}
	name := req.Header.Get("Batch-Id")
	before, again := r.names[name]
	if again && before != body {
		r.t.Errorf("batch %s was %q, and is sent again as %q", name, before, body)
	}
	if !again {
		r.store(name, body)
	}
	w.WriteHeader(http.StatusAccepted)
	fmt.Fprintf(w, `{"accepted":%d,"duplicate":%t}`, countLines([]byte(body)), again)
}

func (r *receiver) store(name, body string) {
	r.names[name] = body
	file, _, _ := strings.Cut(name, ":")
	if r.lines[file] == nil {
		r.order = append(r.order, file)
	}
	for line := range strings.Lines(body) {
		if line = strings.TrimRight(line, "\r\n"); line != "" {
			r.lines[file] = append(r.lines[file], line)
		}
	}
}

// all are the lines, file by file.
func (r *receiver) all() (lines []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, file := range r.order {
		lines = append(lines, r.lines[file]...)
	}
	return lines
}

func unpack(t *testing.T, req *http.Request) string {
	var from io.Reader
	var err error
	switch coding := req.Header.Get("Content-Encoding"); coding {
	case "gzip":
		from, err = gzip.NewReader(req.Body)
	case "zstd":
		from, err = zstd.NewReader(req.Body)
	default:
		err = fmt.Errorf("Content-Encoding is %q", coding)
	}
	if err != nil {
		t.Error(err)
		return ""
	}
	body, err := io.ReadAll(from)
	if err != nil {
		t.Error(err)
	}
	return string(body)
}

// site is a folder with files, and what ships them.
type site struct {
	t    *testing.T
	dir  string
	cfg  Config
	mu   sync.Mutex
	said bytes.Buffer // guarded by mu
}

func newSite(t *testing.T, r *receiver, patterns ...string) *site {
	s := &site{t: t, dir: t.TempDir()}
	for i := range patterns {
		patterns[i] = filepath.Join(s.dir, patterns[i])
	}
	s.cfg = Config{
		Patterns: patterns, State: s.path("state"), Rejected: s.path("rejected"),
		BatchSize: 1 << 20, BatchWait: time.Millisecond, MaxLine: 1 << 16, LineWait: time.Hour, Linger: time.Hour, Poll: 2 * time.Millisecond,
		Target: r.url, Kind: Lines, Timeout: 10 * time.Second,
		Say: func(text string) {
			s.mu.Lock()
			defer s.mu.Unlock()
			fmt.Fprintln(&s.said, text)
		},
	}
	return s
}

func (s *site) path(name string) string { return filepath.Join(s.dir, name) }

func (s *site) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.said.String()
}

func (s *site) write(name, text string) {
	s.t.Helper()
	f, err := os.OpenFile(s.path(name), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) rename(from, to string) {
	s.t.Helper()
	if err := os.Rename(s.path(from), s.path(to)); err != nil {
		s.t.Fatal(err)
	}
}

// once ships what there is.
func (s *site) once() (Summary, error) {
	s.t.Helper()
	cfg := s.cfg
	cfg.Once = true
	sh, err := Open(cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	defer sh.Close()
	return sh.Run(s.t.Context())
}

// start follows until stop, which returns what the run said.
func (s *site) start() (stop func() Summary) {
	s.t.Helper()
	sh, err := Open(s.cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := newStop(s.t)
	done := make(chan Summary, 1)
	go func() {
		defer sh.Close()
		sum, err := sh.Run(ctx)
		if err != nil {
			s.t.Error(err)
		}
		done <- sum
	}()
	var ended sync.Once
	var sum Summary
	stop = func() Summary {
		ended.Do(func() { cancel(); sum = <-done })
		return sum
	}
	s.t.Cleanup(func() { stop() })
	return stop
}

// until polls ok until it holds.
func (s *site) until(what string, ok func() bool) {
	s.t.Helper()
	limit := time.NewTimer(20 * time.Second)
	defer limit.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-limit.C:
			s.t.Fatalf("not within 20 s: %s\nit said: %s", what, s.text())
		}
	}
}
