package http

import (
	"bytes"
	"io"
	"strconv"
)

// maxChunkLine bounds the line before a chunk, with what may stand behind its size.
const maxChunkLine = 256

// chunks is a chunked body with what follows its last chunk.
type chunks struct {
	body  *leanBody
	left  int64 // of the present chunk
	begun bool
}

// Read implements io.Reader.
func (c *chunks) Read(p []byte) (int, error) {
	if c.left == 0 {
		if err := c.next(); err != nil {
			return 0, err
		}
	}
	n, err := c.body.cn.r.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	return n, cut(err)
}

// next goes to the next chunk; io.EOF says that there is none, and that all was read.
func (c *chunks) next() error {
	h := head{r: c.body.cn.r, left: maxChunkLine}
	defer func() { c.body.again = c.body.again && !h.closes }()
	if c.begun {
		if line, err := h.line(); err != nil || len(line) > 0 {
			return malformedOr(err)
		}
	}
	c.begun = true
	line, err := h.line()
	if err != nil {
		return cut(err)
	}
	size, _, _ := bytes.Cut(line, []byte(";"))
	n, err := strconv.ParseUint(string(bytes.TrimRight(size, " \t")), 16, 63)
	if err != nil || !isValue(line) {
		return errMalformed
	}
	if c.left = int64(n); n > 0 {
		return nil
	}
	h.left = answerBuffer
	if err := h.section(); err != nil { // the trailer
		return err
	}
	return io.EOF
}

func malformedOr(err error) error {
	if err == nil {
		return errMalformed
	}
	return cut(err)
}
