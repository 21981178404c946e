package http

import (
	"bufio"
	"bytes"
	"io"
	nethttp "net/http"
	"strings"
	"testing"
)

// FuzzAnswerHead: whatever is taken for an answer after which the connection is used
// again is the same answer to the standard library, and ends at the same byte.
func FuzzAnswerHead(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x\r\nok\r\n0\r\nX: y\r\n\r\nHTTP/1.1",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.0 200 OK\r\n\r\nx", "HTTP/1.1 200 \r\nA: b\r\n c\r\n\r\n",
		"HTTP/1.1 200 OK\r\nRetry-After: 5\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		ours := bufio.NewReaderSize(bytes.NewReader(text), answerBuffer)
		cn := &conn{r: ours, ctx: t.Context()}
		resp, err := cn.answer(posting{all: true}, nil)
		if err != nil || resp.StatusCode < 200 {
			return
		}
		b := resp.Body.(*leanBody)
		body, err := io.ReadAll(b)
		if err != nil || !b.again || !b.whole {
			return
		}
		theirs := bufio.NewReader(bytes.NewReader(text))
		want, err := nethttp.ReadResponse(theirs, nil)
		for err == nil && want.StatusCode < 200 {
			want, err = nethttp.ReadResponse(theirs, nil)
		}
		if err != nil {
			t.Fatalf("%q is taken, and net/http says %v", text, err)
		}
		wanted, err := io.ReadAll(want.Body)
		if err != nil || !bytes.Equal(body, wanted) || resp.StatusCode != want.StatusCode || want.Close {
			t.Fatalf("%q: status %d with body %q; net/http: %d, %q, %v, closes %v", text, resp.StatusCode, body, want.StatusCode, wanted, err, want.Close)
		}
		for name, values := range resp.Header {
			if got := want.Header[name]; strings.Join(got, "|") != strings.Join(values, "|") {
				t.Fatalf("%q: %s is %q; net/http: %q", text, name, values, got)
			}
		}
		left, _ := io.ReadAll(ours)
		if more, _ := io.ReadAll(theirs); !bytes.Equal(left, more) {
			t.Fatalf("%q: it ends before %q; net/http: before %q", text, left, more)
		}
	})
}
