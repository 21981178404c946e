package ingress

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"runtime"
	"strings"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
)

const (
	// maxRatio bounds what a body may inflate to for each byte of it, beyond what any
	// body may: real logs shrink to a twentieth.
	maxRatio        = 200
	ratioFrom int64 = 4 << 20
	// maxZstdWindow is what RFC 9659 allows on the web: 8 MiB.
	maxZstdWindow = 8 << 20
	// defaultMaxInflated stands in for a limit that the policy leaves at 0.
	defaultMaxInflated int64 = 32 << 20
)

// contentCoding returns how a body is compressed: gzip, zstd, deflate, or "" for not
// at all.
func contentCoding(header http.Header) (string, error) {
	coding := ""
	for _, v := range header["Content-Encoding"] {
		for name := range strings.SplitSeq(v, ",") {
			name = strings.ToLower(strings.TrimSpace(name))
			switch {
			case name == "" || name == "identity":
			case coding != "":
				return "", problemUnsupportedEncoding("a body that is compressed twice")
			case name == "gzip" || name == "x-gzip":
				coding = "gzip"
			case name == "zstd" || name == "deflate":
				coding = name
			default:
				return "", problemUnsupportedEncoding("this Content-Encoding")
			}
		}
	}
	return coding, nil
}

// inflater holds what decompressing works in: up to maxZstdWindow and a little.
type inflater struct {
	src  bytes.Reader
	gzip *gzip.Reader
	zstd *zstd.Decoder
	zlib io.ReadCloser
	raw  io.ReadCloser // deflate without a frame
}

// newInflaters returns as many as can be at work at a time, which bounds their
// memory too: they leave a processor to everything else, and one to who waits for the
// disk, where there are as many, so that bombs do not hold up others. What they work in is made at first use.
func newInflaters() chan *inflater {
	all := make(chan *inflater, max(1, runtime.GOMAXPROCS(0)-2))
	for range cap(all) {
		all <- &inflater{}
	}
	return all
}

func (d *inflater) open(coding string, body []byte) (io.Reader, error) {
	d.src.Reset(body)
	switch coding {
	case "gzip":
		if d.gzip == nil {
			d.gzip = new(gzip.Reader)
		}
		return d.gzip, d.gzip.Reset(&d.src)
	case "deflate":
		return d.openDeflate(body)
	}
	if d.zstd == nil {
		var err error
		// One at a time: more would start goroutines of its own.
		d.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxZstdWindow))
		if err != nil {
			return nil, err
		}
	}
	return d.zstd, d.zstd.Reset(&d.src)
}

// inflatedSize guesses what a body inflates to. The end of a gzip says so, which is
// believed as far as real bodies go: the memory is taken before a byte is there.
func inflatedSize(coding string, wire []byte) int64 {
	const usual, likely = 4, 32
	n := int64(len(wire))
	if coding == "gzip" && n >= 4 {
		if says := int64(binary.LittleEndian.Uint32(wire[n-4:])); says >= n && says <= likely*n {
			return says
		}
	}
	return max(usual*n, firstBodyBytes-1)
}

// openDeflate takes deflate in a zlib frame, as RFC 9110 has it, and without one, as
// many send it. No encoder writes a first block that looks like a frame.
func (d *inflater) openDeflate(body []byte) (io.Reader, error) {
	if len(body) >= 2 && (body[0]&0xf != 8 || (int(body[0])<<8|int(body[1]))%31 != 0) {
		if d.raw == nil {
			d.raw = flate.NewReader(&d.src)
			return d.raw, nil
		}
		return d.raw, reset(d.raw, &d.src)
	}
	if d.zlib == nil {
		var err error
		d.zlib, err = zlib.NewReader(&d.src)
		return d.zlib, err
	}
	return d.zlib, reset(d.zlib, &d.src)
}

// reset has a reader of deflate begin anew, which all of them can.
func reset(r io.ReadCloser, src io.Reader) error {
	if r, ok := r.(flate.Resetter); ok { // zlib's has the same method
		return r.Reset(src, nil)
	}
	return errors.ErrUnsupported
}

// inflate replaces the body in s, which was read whole: a slow caller holds no
// inflater.
func (h *Handler) inflate(ctx context.Context, s *scratch, coding string, limit int64) error {
	var d *inflater
	select {
	case d = <-h.inflaters:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() {
		d.src.Reset(nil)
		h.inflaters <- d
	}()
	wire := s.body
	r, err := d.open(coding, wire)
	if err != nil {
		return inflateProblem(coding, err)
	}
	most := min(limit, max(ratioFrom, maxRatio*int64(len(wire))))
	buf, err := h.resize(s, nil, min(inflatedSize(coding, wire)+1, most+1))
	if err != nil {
		return err
	}
	s.body, err = h.readAll(s, buf, r, most, most+1)
	if p, ok := errors.AsType[*problem](err); ok && p.status == http.StatusRequestEntityTooLarge {
		return problemInflatesTooLarge(most, most < limit)
	}
	if err == nil && coding == "deflate" && d.src.Len() > 0 { // gzip and zstd look for more themselves
		err = flate.CorruptInputError(len(wire) - d.src.Len())
	}
	if err != nil {
		return inflateProblem(coding, err)
	}
	h.letGo(s, counted(int64(cap(wire))))
	return nil
}

func inflateProblem(coding string, err error) error {
	if p, ok := errors.AsType[*problem](err); ok {
		return p
	}
	switch {
	case errors.Is(err, zstd.ErrWindowSizeExceeded), errors.Is(err, zstd.ErrDecoderSizeExceeded):
		return problemBadRequest("the body needs a zstd window over 8 MiB")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return problemBadRequest("the body ends before its " + coding + " stream does")
	}
	return problemBadRequest("the body is not valid " + coding)
}
