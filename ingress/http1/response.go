package http1

import (
	"errors"
	"net/http"
	"slices"
	"strconv"
	"time"
)

const (
	// streamFrom is the length from which an answer is sent while it is made.
	streamFrom = 64 << 10
	// keptBytes is what a connection keeps of a buffer for the next request.
	keptBytes = 16 << 10
)

var errTooMuch = errors.New("the answer is longer than its Content-Length")

// response is the answer to the request at hand: held back until it is whole,
// unless it is flushed or long.
type response struct {
	c      *conn
	header http.Header
	status int
	body   []byte // held back
	head   bool   // of a HEAD request: the body is not sent

	declared  int64 // Content-Length that the handler set; -1: none
	written   int64 // bytes of the body
	streaming bool  // the head is out
	chunked   bool
	trailers  http.Header // announced: their fields come after the body; nil: none
	close     bool        // the connection ends after it
	err       error
}

func (w *response) reset(r *http.Request, closes bool) {
	clear(w.header)
	if cap(w.body) > keptBytes {
		w.body = nil
	}
	*w = response{c: w.c, header: w.header, body: w.body[:0], head: r.Method == http.MethodHead, declared: -1, close: closes}
}

// Header implements http.ResponseWriter.
func (w *response) Header() http.Header { return w.header }

// WriteHeader implements http.ResponseWriter. A status of 1xx is sent at once.
func (w *response) WriteHeader(status int) {
	switch {
	case w.status != 0:
		return
	case status >= 100 && status < 200 && status != http.StatusSwitchingProtocols:
		b := appendFields(appendStatus(nil, status), w.header, nil)
		_, w.err = w.c.conn.Write(append(b, "\r\n"...))
		return
	}
	w.status = status
	if v := w.header["Content-Length"]; len(v) == 1 && bodyAllowed(status) {
		if n, err := strconv.ParseUint(v[0], 10, 63); err == nil {
			w.declared = int64(n)
		}
	}
}

// Write implements http.ResponseWriter.
func (w *response) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if w.err != nil {
		return 0, w.err
	}
	if !bodyAllowed(w.status) {
		return 0, http.ErrBodyNotAllowed
	}
	if w.declared >= 0 && w.written+int64(len(p)) > w.declared {
		w.close = true
		return 0, errTooMuch
	}
	w.written += int64(len(p))
	if w.streaming {
		return w.send(p)
	}
	if len(w.body)+len(p) > streamFrom {
		if err := w.stream(); err != nil {
			return 0, err
		}
		return w.send(p)
	}
	w.body = append(w.body, p...)
	return len(p), nil
}

// FlushError sends what there is; http.ResponseController calls it.
func (w *response) FlushError() error {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if !w.streaming && w.err == nil {
		return w.stream()
	}
	return w.err
}

// Flush implements http.Flusher.
func (w *response) Flush() { _ = w.FlushError() }

// SetReadDeadline and SetWriteDeadline take the place of the server's own limits
// for this request; http.ResponseController calls them.
func (w *response) SetReadDeadline(t time.Time) error {
	w.c.readUntil.Store(w.c.srv.nanos(t))
	return nil
}

// SetWriteDeadline is beside SetReadDeadline.
func (w *response) SetWriteDeadline(t time.Time) error {
	w.c.writeUntil.Store(w.c.srv.nanos(t))
	return w.c.conn.SetWriteDeadline(time.Time{}) // one that has passed would stay
}

// stream sends the head and what was held back.
func (w *response) stream() error {
	w.begins()
	w.streaming = true
	w.chunked = w.declared < 0 && bodyAllowed(w.status) && !w.head
	if w.chunked {
		w.trailers = announced(w.header["Trailer"])
	}
	w.c.out = w.appendHead(w.c.out[:0])
	held := w.body
	w.body = w.body[:0]
	if _, w.err = w.c.conn.Write(w.c.out); w.err == nil && len(held) > 0 {
		_, w.err = w.send(held)
	}
	return w.err
}

// send writes a part of the body of an answer that is streamed.
func (w *response) send(p []byte) (int, error) {
	if len(p) == 0 || w.head {
		return len(p), w.err
	}
	if !w.chunked {
		var n int
		n, w.err = w.c.conn.Write(p)
		return n, w.err
	}
	b := strconv.AppendUint(w.c.out[:0], uint64(len(p)), 16)
	b = append(append(append(b, "\r\n"...), p...), "\r\n"...)
	w.c.out = b
	if _, w.err = w.c.conn.Write(b); w.err != nil {
		return 0, w.err
	}
	return len(p), nil
}

// finish sends what is left. It reports whether the connection may go on.
func (w *response) finish() bool {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	switch {
	case w.err != nil:
	case w.chunked:
		w.c.out = append(w.appendTrailer(append(w.c.out[:0], "0\r\n"...)), "\r\n"...)
		_, w.err = w.c.conn.Write(w.c.out)
	case !w.streaming:
		w.begins()
		b := w.appendHead(w.c.out[:0])
		if !w.head {
			b = append(b, w.body...)
		}
		w.c.out = b
		_, w.err = w.c.conn.Write(b)
	}
	short := w.declared >= 0 && w.written < w.declared && !w.head && bodyAllowed(w.status)
	return w.err == nil && !short && !w.close
}

// begins says that nothing comes before the answer any more.
func (w *response) begins() {
	w.c.saying.Lock()
	defer w.c.saying.Unlock()
	w.c.said = true
}

// closes reports whether the connection ends after the answer.
func (w *response) closes() bool {
	return w.close || w.saysClose()
}

func (w *response) saysClose() bool {
	return slices.ContainsFunc(w.header["Connection"], func(v string) bool { return hasOption(v, "close") })
}

// appendHead writes the status line and the header, and rules how the end of
// the body is told.
func (w *response) appendHead(b []byte) []byte {
	b = appendStatus(b, w.status)
	w.close = w.closes()
	b = appendFields(b, w.header, w.trailers)
	if w.declared >= 0 {
		b = append(strconv.AppendInt(append(b, "Content-Length: "...), w.declared, 10), "\r\n"...)
	}
	if w.header["Date"] == nil {
		b = append(append(append(b, "Date: "...), w.c.srv.date()...), "\r\n"...)
	}
	if w.close && !w.saysClose() {
		b = append(b, "Connection: close\r\n"...)
	}
	switch {
	case w.chunked:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	case w.declared < 0 && bodyAllowed(w.status) && !(w.head && (w.streaming || w.written == 0)):
		b = strconv.AppendInt(append(b, "Content-Length: "...), w.written, 10)
		b = append(b, "\r\n"...)
	}
	return append(b, "\r\n"...)
}

func appendStatus(b []byte, status int) []byte {
	switch status {
	case http.StatusAccepted:
		return append(b, "HTTP/1.1 202 Accepted\r\n"...)
	case http.StatusOK:
		return append(b, "HTTP/1.1 200 OK\r\n"...)
	}
	b = strconv.AppendInt(append(b, "HTTP/1.1 "...), int64(status), 10)
	return append(append(append(b, ' '), http.StatusText(status)...), "\r\n"...)
}

// appendFields writes a header but for what comes later. What would break out of a
// line becomes a space.
func appendFields(b []byte, header, later http.Header) []byte {
	for name, values := range header {
		if name == "Transfer-Encoding" || name == "Content-Length" || !isToken(name) {
			continue // the framing is ours
		}
		if _, ok := later[name]; ok {
			continue
		}
		b = appendField(b, name, values)
	}
	return b
}

func appendField(b []byte, name string, values []string) []byte {
	for _, v := range values {
		b = append(append(b, name...), ": "...)
		start := len(b)
		b = append(b, v...)
		for i := start; i < len(b); i++ {
			if b[i] == '\r' || b[i] == '\n' {
				b[i] = ' '
			}
		}
		b = append(b, "\r\n"...)
	}
	return b
}

// bodyAllowed follows RFC 9110, section 6.4.1.
func bodyAllowed(status int) bool {
	return status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified
}
