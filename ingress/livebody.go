package ingress

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// errEnded is what whoever reads a body finds that belongs to an ended request.
var errEnded = errors.New("the request has ended")

// liveBody is the body of a request that is passed on. A transport may read it
// on a goroutine of its own, for longer than the request lasts: end keeps it
// from that.
type liveBody struct {
	whole bool // it came with the header
	bytes []byte
	x     *exchange
	from  io.Reader // nil: there is none, or it is whole
	limit int64
	err   atomic.Pointer[problem] // why it has no end

	mu    sync.Mutex // held while it is read
	read  int64      // guarded by mu
	ended bool       // guarded by mu
	atEnd func()     // guarded by mu; called once all is read
}

func newLiveBody(x *exchange, limit int64) *liveBody {
	r := x.r
	b := &liveBody{x: x, limit: limit}
	if r.ContentLength == 0 || r.Body == nil {
		return b
	}
	if b.bytes = wholeBody(r, limit); b.bytes != nil {
		b.whole = true
		return b
	}
	b.from = r.Body
	return b
}

// open returns the body for a request and, where it can be read again, how.
func (b *liveBody) open() (io.ReadCloser, func() (io.ReadCloser, error)) {
	switch {
	case b.whole:
		again := func() (io.ReadCloser, error) { return &wholeReader{b, bytes.NewReader(b.bytes)}, nil }
		body, err := again()
		if err != nil { // it cannot be
			return http.NoBody, nil
		}
		return body, again
	case b.from == nil:
		return http.NoBody, nil
	default:
		return b, nil
	}
}

// wholeReader reads a body that is there.
type wholeReader struct {
	b *liveBody
	r *bytes.Reader
}

// Read implements io.Reader.
func (w *wholeReader) Read(p []byte) (int, error) {
	w.b.mu.Lock()
	defer w.b.mu.Unlock()
	if w.b.ended {
		return 0, errEnded
	}
	return w.r.Read(p)
}

// Close implements io.Closer.
func (w *wholeReader) Close() error { return nil }

// Read implements io.Reader.
func (b *liveBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended {
		return 0, errEnded
	}
	if p := b.err.Load(); p != nil {
		return 0, p
	}
	n, err := b.from.Read(p)
	b.read += int64(n)
	switch {
	case b.read > b.limit:
		b.err.Store(problemTooLarge(b.limit))
		return 0, b.err.Load()
	case err == io.EOF:
		if b.atEnd != nil {
			b.atEnd()
			b.atEnd = nil
		}
	case err != nil:
		b.err.Store(bodyProblem(err))
		return n, b.err.Load()
	}
	return n, err
}

// Close implements io.Closer; end is what ends it.
func (b *liveBody) Close() error { return nil }

// fault is why the body has no end; nil where it may have one.
func (b *liveBody) fault() error {
	if p := b.err.Load(); p != nil {
		return p
	}
	return nil
}

// end waits until nobody reads it, and sees that nobody does from now on.
func (b *liveBody) end() {
	if !b.mu.TryLock() {
		b.interrupt()
		b.mu.Lock()
	}
	b.ended = true
	b.mu.Unlock()
}

// interrupt sends whoever reads away. What is left to be read belongs to the server.
func (b *liveBody) interrupt() {
	if c, ok := b.from.(interface{ Interrupt() }); ok {
		c.Interrupt()
		return
	}
	// Of a connection that takes no deadline the end of the body is waited for.
	_ = http.NewResponseController(b.x.w).SetReadDeadline(time.Unix(1, 0))
}

// trailer has out sent with the trailer of in, which is known once the body is read.
func (b *liveBody) trailer(in, out *http.Request) {
	out.Trailer = nil
	for name := range in.Trailer {
		if strings.HasPrefix(name, "Forebay-") {
			continue
		}
		if out.Trailer == nil {
			out.Trailer = make(http.Header, len(in.Trailer))
		}
		out.Trailer[name] = nil
	}
	trailer := out.Trailer
	b.mu.Lock()
	defer b.mu.Unlock()
	b.atEnd = func() {
		for name := range trailer {
			trailer[name] = in.Trailer[name]
		}
	}
}

// liveWriter is the answer's way to the caller. It is given more time for as long
// as it takes what is sent.
type liveWriter struct {
	http.ResponseWriter
	old     bool // the caller speaks HTTP/1.0, which has no 1xx
	renewed time.Time
}

// WriteHeader implements http.ResponseWriter. That the sink is ready for the
// body is no news: the caller is told when the body is read.
func (w *liveWriter) WriteHeader(status int) {
	if status == http.StatusContinue || status < http.StatusOK && w.old {
		return
	}
	w.renew()
	w.ResponseWriter.WriteHeader(status)
}

// Write implements io.Writer.
func (w *liveWriter) Write(p []byte) (int, error) {
	w.renew()
	return w.ResponseWriter.Write(p)
}

// FlushError sends what there is; http.ResponseController calls it.
func (w *liveWriter) FlushError() error {
	w.renew()
	return http.NewResponseController(w.ResponseWriter).Flush()
}

func (w *liveWriter) renew() {
	now := time.Now()
	if now.Sub(w.renewed) < answerMark {
		return
	}
	w.renewed = now
	// Where there are no deadlines there is none to move.
	_ = http.NewResponseController(w.ResponseWriter).SetWriteDeadline(now.Add(answerIdle))
}

// Unwrap is for http.ResponseController.
func (w *liveWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// served tells ReverseProxy that a server will see its panic when an answer is cut off.
type served struct{ context.Context }

// Value implements context.Context.
func (s served) Value(key any) any {
	if key == http.ServerContextKey {
		return true
	}
	return s.Context.Value(key)
}
