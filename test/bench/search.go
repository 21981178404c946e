package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// linesAtOnce is the most lines that a drain is taken to deliver in a second, here.
const linesAtOnce = 700_000

const searchPolicy = `version: 1
sinks:
  - name: search
    elasticsearch: { urls: ["http://%s"], index: "logs-{date}" }
    budget: { concurrency: { max: %d } }
streams:
  - { name: orders, keep_delivered: 1s }
drains:
  - { name: orders-to-search, stream: orders, sink: search, schedule: { base: %s } }
routes:
  - { name: create-order, match: { methods: [POST], path: /v1/orders }, mode: buffer, stream: orders, split: ndjson, max_body: 16MiB }
`

// search has a backlog of lines leave as fast as it can, as documents of a _bulk
// endpoint that only takes requests apart and answers for each document.
func search(ctx context.Context, o options) error {
	lines, err := readOrders(o.orders)
	if err != nil {
		return err
	}
	all, err := inBatches(lines)
	if err != nil {
		return err
	}
	e, err := listenBulk()
	if err != nil {
		return err
	}
	defer e.close()
	fmt.Printf("lines of %d bytes, %d requests at a time, gzip, %d rounds of %v each, to a _bulk endpoint that only parses\n\n",
		len(all(0)())/perBatch, o.connections, o.rounds, o.measure)
	var rounds []round
	for i := range o.rounds {
		r, err := roundOfSearch(ctx, o, e, all)
		if err != nil {
			return fmt.Errorf("round %d: %w", i+1, err)
		}
		rounds = append(rounds, r)
		fmt.Printf("round %d   %.0f lines/s\n", i+1, r.rate())
	}
	report(os.Stdout, []side{{name: "forebay"}}, [][]round{rounds}, 1)
	return nil
}

func roundOfSearch(ctx context.Context, o options, e *bulkEndpoint, all bodies) (r round, err error) {
	dir := filepath.Join(o.dir, fmt.Sprintf("data-%d", os.Getpid()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	p, err := startForebay(o.forebay, dir, fmt.Sprintf(searchPolicy, e.addr(), o.connections, "0"))
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	if err := postBulk(ctx, p.public, all(0), int(linesAtOnce*(o.warm+o.measure).Seconds())/perBatch); err != nil {
		return r, err
	}
	if err := os.WriteFile(filepath.Join(dir, "policy.yaml"), fmt.Appendf(nil, searchPolicy, e.addr(), o.connections, "unlimited"), 0o600); err != nil {
		return r, err
	}
	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		return r, err
	}
	return e.measure(ctx, o, p)
}

// post sends so many batches over one connection.
func postBulk(ctx context.Context, addr string, next func() []byte, batches int) error {
	t := httpTarget(addr, "application/x-ndjson")
	c, err := t.dial(ctx, addr, 0)
	if err != nil {
		return err
	}
	defer func() { _ = c.close() }() // it has been of use
	for range batches {
		if err := errors.Join(ctx.Err(), c.send(next())); err != nil {
			return err
		}
	}
	return nil
}

// bulkEndpoint is a _bulk endpoint that keeps nothing.
type bulkEndpoint struct {
	ln    net.Listener
	srv   http.Server
	took  atomic.Int64 // documents
	fault atomic.Pointer[string]
	parts sync.Pool // of *bulkRequest
}

// bulkRequest is what the handling of one needs.
type bulkRequest struct {
	zip    *gzip.Reader
	text   bytes.Buffer
	answer []byte
}

func listenBulk() (*bulkEndpoint, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	e := &bulkEndpoint{ln: ln, parts: sync.Pool{New: func() any { return new(bulkRequest) }}}
	e.srv = http.Server{Handler: e, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = e.srv.Serve(ln) }() // until close
	return e, nil
}

func (e *bulkEndpoint) addr() string { return e.ln.Addr().String() }

func (e *bulkEndpoint) close() { _ = e.srv.Close() } // it has been of use

// ServeHTTP implements http.Handler.
func (e *bulkEndpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b := e.parts.Get().(*bulkRequest)
	defer e.parts.Put(b)
	err := b.read(r)
	n := 0
	if err == nil {
		n, err = b.parse()
	}
	if err != nil {
		fault := fmt.Sprintf("%s %s: %v", r.Method, r.URL.Path, err)
		e.fault.CompareAndSwap(nil, &fault)
		http.Error(w, fault, http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if _, err := w.Write(b.answer); err == nil {
		e.took.Add(int64(n))
	}
}

func (b *bulkRequest) read(r *http.Request) (err error) {
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		if b.zip == nil {
			b.zip, err = gzip.NewReader(body)
		} else {
			err = b.zip.Reset(body)
		}
		if err != nil {
			return err
		}
		body = b.zip
	}
	b.text.Reset()
	_, err = b.text.ReadFrom(body)
	return err
}

// parse takes the lines apart, and makes an item of each document.
func (b *bulkRequest) parse() (n int, err error) {
	b.answer = append(b.answer[:0], `{"errors":false,"items":[`...)
	for text := b.text.Bytes(); len(text) > 0; n++ {
		action, rest, ok := bytes.Cut(text, []byte{'\n'})
		doc, rest, whole := bytes.Cut(rest, []byte{'\n'})
		switch {
		case !ok || !whole:
			return n, errors.New("no newline at the end")
		case !bytes.HasPrefix(action, []byte(`{"create":{"_index":"logs-`)) || !bytes.Contains(action, []byte(`","_id":"`)) || !bytes.HasSuffix(action, []byte(`"}}`)):
			return n, fmt.Errorf("action line %q", action)
		case len(doc) < 2 || doc[0] != '{' || doc[len(doc)-1] != '}':
			return n, fmt.Errorf("document %q", doc)
		}
		if n > 0 {
			b.answer = append(b.answer, ',')
		}
		b.answer = append(b.answer, `{"create":{"status":201}}`...)
		text = rest
	}
	b.answer = append(b.answer, "]}"...)
	return n, nil
}

// measure counts the documents that a process sends.
func (e *bulkEndpoint) measure(ctx context.Context, o options, p *process) (r round, err error) {
	if err := wait(ctx, o.warm); err != nil {
		return r, err
	}
	user, system := p.times()
	ownUser, ownSystem := ownTimes()
	began, before := time.Now(), e.took.Load()
	if err := wait(ctx, o.measure); err != nil {
		return r, err
	}
	r.took, r.requests = time.Since(began), uint64(e.took.Load()-before)
	r.sent = r.requests
	r.serverUser, r.serverSystem = p.times()
	r.serverUser, r.serverSystem = r.serverUser-user, r.serverSystem-system
	r.clientUser, r.clientSystem = ownTimes()
	r.clientUser, r.clientSystem = r.clientUser-ownUser, r.clientSystem-ownSystem
	if fault := e.fault.Load(); fault != nil {
		return r, errors.New(strings.TrimSpace(*fault))
	}
	if r.requests == 0 {
		return r, errors.New("nothing was sent")
	}
	return r, nil
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
