package block

import (
	"encoding/binary"
	"fmt"
)

// Reader takes values off a payload. The first value that is not there sets
// its error, and what follows is zero: callers check Err once, at the end.
type Reader struct {
	b   string
	err error
}

// NewReader reads b. Strings that it returns are parts of b.
func NewReader(b string) *Reader { return &Reader{b: b} }

// Err is the first value that was missing, as ErrDamaged, or nil.
func (r *Reader) Err() error { return r.err }

// Len is the number of bytes left.
func (r *Reader) Len() int { return len(r.b) }

// Rest is the bytes left.
func (r *Reader) Rest() string { return r.b }

func (r *Reader) fail(what string) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: payload ends in a %s", ErrDamaged, what)
	}
	r.b = ""
}

// Uint takes an unsigned varint.
func (r *Reader) Uint() uint64 {
	if len(r.b) > 0 && r.b[0] < 0x80 { // as most are
		v := uint64(r.b[0])
		r.b = r.b[1:]
		return v
	}
	var v uint64
	for i := 0; i < len(r.b) && i < binary.MaxVarintLen64; i++ {
		c := r.b[i]
		v |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			r.b = r.b[i+1:]
			return v
		}
	}
	r.fail("number")
	return 0
}

// Int takes a signed varint.
func (r *Reader) Int() int64 {
	u := r.Uint()
	return int64(u>>1) ^ -int64(u&1)
}

// Byte takes one byte.
func (r *Reader) Byte() byte {
	if len(r.b) == 0 {
		r.fail("byte")
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

// String takes a length and as many bytes.
func (r *Reader) String() string { return r.Take(r.Uint()) }

// Take takes n bytes.
func (r *Reader) Take(n uint64) string {
	if n > uint64(len(r.b)) {
		r.fail("string")
		return ""
	}
	s := r.b[:n]
	r.b = r.b[n:]
	return s
}

// Count takes a number of items that each have at least min bytes, so that a
// damaged count cannot make a caller reserve more than the payload holds.
func (r *Reader) Count(minBytes int) int {
	n := r.Uint()
	if n > uint64(len(r.b)) || n*uint64(minBytes) > uint64(len(r.b)) {
		r.fail("list")
		return 0
	}
	return int(n)
}

// AppendString appends a length and s.
func AppendString[T string | []byte](dst []byte, s T) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}
