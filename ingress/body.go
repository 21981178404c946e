package ingress

import (
	"errors"
	"io"
	"net/http"
	"os"
	"sync/atomic"

	"forebay/buffer"
)

const (
	// A body's buffer begins small and grows with what arrives: a caller who
	// declares a megabyte and sends nothing holds no megabyte.
	firstBodyBytes = 4 << 10
	// Buffers up to here are kept for the next request, and are bounded by the
	// number of connections; beyond it bodyMemory counts.
	pooledBodyBytes = 16 << 10
	// They stand in for limits that the policy leaves at 0.
	defaultMaxBody    int64 = 1 << 20
	defaultMaxMessage int64 = 1 << 20
)

// scratch is the memory one request works in. Its message points into it.
type scratch struct {
	body   []byte
	fields []buffer.Field
	msgs   [1]buffer.Message
	out    []byte // the answer's body
	held   int64  // bytes taken from bodyMemory
}

func newScratch() any {
	return &scratch{
		body:   make([]byte, 0, firstBodyBytes),
		fields: make([]buffer.Field, 0, 16),
		out:    make([]byte, 0, 1<<10),
	}
}

// giveBack lets go of all that bodyMemory counted. The message itself is
// left alone: the buffer may still read it.
func (h *Handler) giveBack(s *scratch) {
	if s.held == 0 {
		return
	}
	s.body = nil
	h.letGo(s, s.held)
}

// recycle keeps s for another request. It must not be called while anyone may
// still read s.
func (h *Handler) recycle(s *scratch) {
	if cap(s.body) < firstBodyBytes || cap(s.body) > pooledBodyBytes || cap(s.fields) > 256 || cap(s.out) > pooledBodyBytes {
		return
	}
	clear(s.fields) // or the strings of this request would live on
	s.msgs[0] = buffer.Message{}
	s.body, s.fields, s.out = s.body[:0], s.fields[:0], s.out[:0]
	h.scratch.Put(s)
}

// bodyMemory bounds the memory of large bodies in sum.
type bodyMemory struct {
	max  int64 // bytes
	used atomic.Int64
}

func (m *bodyMemory) take(n int64) bool {
	if m.used.Add(n) > m.max {
		m.used.Add(-n)
		return false
	}
	return true
}

func (m *bodyMemory) give(n int64) { m.used.Add(-n) }

// wholeBody returns a body of at most limit bytes that has arrived with its
// header, without copying it; nil where it has not. It is good until the request
// has been answered.
func wholeBody(r *http.Request, limit int64) []byte {
	if b, ok := r.Body.(interface{ Whole() []byte }); ok && r.ContentLength <= limit {
		return b.Whole()
	}
	return nil
}

// readBody reads a body of at most limit bytes into s.body. What s then holds
// of bodyMemory is in s.held. A declared length over the limit is refused
// before anything is read, so that a caller who sent Expect: 100-continue
// sends nothing.
func (h *Handler) readBody(s *scratch, r *http.Request, limit int64) error {
	if r.ContentLength > limit {
		return problemTooLarge(limit)
	}
	if r.ContentLength == 0 {
		return nil
	}
	most := limit + 1 // one more, to see that it is over
	if r.ContentLength > 0 {
		most = r.ContentLength + 1
	}
	var err error
	if s.body, err = h.readAll(s, s.body[:0], r.Body, limit, most); err == nil {
		return nil
	}
	if p, ok := errors.AsType[*problem](err); ok {
		return p
	}
	return bodyProblem(err)
}

// readAll reads to the end of r into buf, which grows up to most bytes. More
// than limit bytes are a problem; other errors are those of r.
func (h *Handler) readAll(s *scratch, buf []byte, r io.Reader, limit, most int64) ([]byte, error) {
	for {
		if size := int64(cap(buf)); int64(len(buf)) == size {
			grown, err := h.resize(s, buf, max(min(2*size, most), size+1))
			if err != nil {
				return buf, err
			}
			buf = grown
		}
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case int64(len(buf)) > limit:
			return buf, problemTooLarge(limit)
		case err == io.EOF:
			return buf, nil
		case err != nil:
			return buf, err
		}
	}
}

// resize gives a buffer another size, in bytes.
func (h *Handler) resize(s *scratch, buf []byte, size int64) ([]byte, error) {
	if err := h.hold(s, counted(size)-counted(int64(cap(buf)))); err != nil {
		return nil, err
	}
	resized := make([]byte, len(buf), size)
	copy(resized, buf)
	return resized, nil
}

// counted is how much of a buffer of that size bodyMemory counts.
func counted(size int64) int64 {
	if size <= pooledBodyBytes {
		return 0
	}
	return size
}

// hold takes n bytes more of bodyMemory for s; letGo gives some of them back.
func (h *Handler) hold(s *scratch, n int64) error {
	if n <= 0 {
		return nil
	}
	if !h.bodies.take(n) {
		return problemUnavailable(reasonOverloaded)
	}
	s.held += n
	return nil
}

func (h *Handler) letGo(s *scratch, n int64) {
	h.bodies.give(n)
	s.held -= n
}

func bodyProblem(err error) *problem {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return problemBodyLate()
	}
	p := problemBadRequest("the body could not be read to its end")
	p.closes = true
	return p
}
