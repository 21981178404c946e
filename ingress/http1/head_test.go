package http1

import (
	"bufio"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
)

func parse(raw string) (*head, *url.URL, *Fault) {
	h, u := &head{header: http.Header{}}, &url.URL{}
	n := endOfHead([]byte(raw), 0)
	if n == 0 {
		return nil, nil, bad("the head has no end")
	}
	if strayLineEnd([]byte(raw[:n]), 0) {
		return nil, nil, bad("a line ends without CRLF")
	}
	if fault := h.parse([]byte(raw[:n])); fault != nil {
		return nil, nil, fault
	}
	return h, u, h.parseTarget(u)
}

const post = "POST /v1/orders HTTP/1.1\r\nHost: h\r\n"

func TestHead(t *testing.T) {
	h, u, fault := parse("POST /v1/orders?a=%2f&b HTTP/1.1\r\nHost: shop.example.com:8080\r\ncontent-length: 12\r\n" +
		"X-Thing:  one\t \r\nx-thing: two\r\nX_Under: \r\nConnection: Keep-Alive, close\r\nExpect: 100-Continue\r\n\r\n")
	if fault != nil {
		t.Fatal(fault)
	}
	want := http.Header{
		"Content-Length": {"12"}, "X-Thing": {"one", "two"}, "X_under": {""},
		"Connection": {"Keep-Alive, close"}, "Expect": {"100-Continue"},
	}
	if !maps.EqualFunc(h.header, want, slices.Equal) {
		t.Errorf("header %v, want %v", h.header, want)
	}
	if h.method != "POST" || u.Path != "/v1/orders" || u.RawQuery != "a=%2f&b" || h.host != "shop.example.com:8080" ||
		h.length != 12 || !h.close || !h.expects || h.upgrade {
		t.Errorf("read as %+v, url %+v", h, u)
	}
}

// TestBadHeads: what two readers could understand in two ways is refused.
func TestBadHeads(t *testing.T) {
	for name, raw := range map[string]string{
		"two equal lengths":             post + "Content-Length: 2\r\nContent-Length: 2\r\n\r\n",
		"two lengths":                   post + "Content-Length: 2\r\nContent-Length: 3\r\n\r\n",
		"list of lengths":               post + "Content-Length: 2, 2\r\n\r\n",
		"signed length":                 post + "Content-Length: +2\r\n\r\n",
		"negative length":               post + "Content-Length: -2\r\n\r\n",
		"hexadecimal length":            post + "Content-Length: 0x2\r\n\r\n",
		"empty length":                  post + "Content-Length:\r\n\r\n",
		"length with underscore":        post + "Content-Length: 1_0\r\n\r\n",
		"length beyond numbers":         post + "Content-Length: 99999999999999999999\r\n\r\n",
		"length and chunks":             post + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
		"chunks and length":             post + "Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n",
		"chunked twice":                 post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
		"chunked in a list":             post + "Transfer-Encoding: gzip, chunked\r\n\r\n",
		"chunked, then identity":        post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n",
		"coding that is not chunked":    post + "Transfer-Encoding: xchunked\r\n\r\n",
		"vertical tab before chunked":   post + "Transfer-Encoding: \x0bchunked\r\n\r\n",
		"space before the colon":        post + "Content-Length : 2\r\n\r\n",
		"folded field":                  post + "X: a\r\n b\r\n\r\n",
		"folded length":                 post + "Content-Length: 2\r\n\t3\r\n\r\n",
		"bare LF after a field":         post + "X: a\nContent-Length: 2\r\n\r\n",
		"bare LF in the request line":   "POST / HTTP/1.1\nHost: h\r\n\r\n",
		"bare LF at the end":            "POST / HTTP/1.1\r\nHost: h\n\r\n",
		"CR inside a value":             post + "X: a\rb\r\n\r\n",
		"NUL in a value":                post + "X: a\x00b\r\n\r\n",
		"no name":                       post + ": a\r\n\r\n",
		"no colon":                      post + "Xa\r\n\r\n",
		"space in a name":               post + "X A: b\r\n\r\n",
		"name beyond ASCII":             post + "X\xc3\xa9: b\r\n\r\n",
		"two hosts":                     post + "Host: h\r\n\r\n",
		"no host":                       "POST / HTTP/1.1\r\n\r\n",
		"host with a path":              "POST / HTTP/1.1\r\nHost: h/x\r\n\r\n",
		"host with a user":              "POST / HTTP/1.1\r\nHost: a@h\r\n\r\n",
		"host with a space":             "POST / HTTP/1.1\r\nHost: a h\r\n\r\n",
		"host with a pipe":              "POST / HTTP/1.1\r\nHost: |h8\r\n\r\n",
		"host with an angle":            "POST / HTTP/1.1\r\nHost: h<\r\n\r\n",
		"expects something else":        post + "Expect: 200-ok\r\n\r\n",
		"no version":                    "POST /\r\nHost: h\r\n\r\n",
		"two spaces":                    "POST  / HTTP/1.1\r\nHost: h\r\n\r\n",
		"trailing space":                "POST / HTTP/1.1 \r\nHost: h\r\n\r\n",
		"lower-case version":            "POST / http/1.1\r\nHost: h\r\n\r\n",
		"long version":                  "POST / HTTP/1.10\r\nHost: h\r\n\r\n",
		"method that is no token":       "PO(ST / HTTP/1.1\r\nHost: h\r\n\r\n",
		"tab instead of a space":        "POST\t/ HTTP/1.1\r\nHost: h\r\n\r\n",
		"control in the target":         "POST /\x01 HTTP/1.1\r\nHost: h\r\n\r\n",
		"target that is neither form":   "POST orders HTTP/1.1\r\nHost: h\r\n\r\n",
		"broken escape in the target":   "POST /%zz HTTP/1.1\r\nHost: h\r\n\r\n",
		"empty line before the request": "\r\nPOST / HTTP/1.1\r\nHost: h\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			h, _, fault := parse(raw)
			if fault == nil || fault.Status != http.StatusBadRequest || fault.Detail == "" {
				t.Errorf("read as %+v, fault %v; want a bad request", h, fault)
			}
		})
	}
}

func TestManyFields(t *testing.T) {
	_, _, fault := parse(post + strings.Repeat("X: a\r\n", maxFields+1) + "\r\n")
	if fault == nil || fault.Status != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("%d fields: fault %v, want status 431", maxFields+1, fault)
	}
}

// FuzzHead: net/http takes what is taken here, and understands the same.
func FuzzHead(f *testing.F) {
	for _, raw := range []string{
		post + "Content-Length: 2\r\n\r\n{}", post + "Transfer-Encoding: chunked\r\n\r\n", "GET http://a/b?c HTTP/1.1\r\nHost: h\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", "CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n", "GET /a%20b? HTTP/1.1\r\nHost: [::1]:80\r\nX: a\r\nX: b\r\n\r\n",
		"GET //a HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n",
	} {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		h, u, fault := parse(raw)
		if fault != nil || h.proto != "HTTP/1.1" {
			return
		}
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(raw)))
		if err != nil {
			t.Fatalf("%q is taken; net/http says %v", raw, err)
		}
		delete(r.Header, "Trailer")
		got := maps.Clone(h.header)
		delete(got, "Trailer")
		if h.method != r.Method || u.String() != r.URL.String() || h.host != r.Host || h.length != r.ContentLength ||
			h.target != r.RequestURI || h.close && !r.Close || !maps.EqualFunc(got, r.Header, slices.Equal) {
			t.Errorf("%q is read as\n%+v\n%+v\nby net/http as\n%+v\n%+v", raw, h, u, r, r.URL)
		}
	})
}

func BenchmarkHead(b *testing.B) {
	raw := []byte("POST /v1/orders HTTP/1.1\r\nHost: shop.example.com\r\nUser-Agent: shop/1.0\r\nContent-Type: application/json\r\n" +
		"Accept: */*\r\nX-Request-Id: 5f31e8b53227a645\r\nContent-Length: 1888\r\n\r\n")
	h := &head{header: http.Header{}}
	u := &url.URL{}
	b.ReportAllocs()
	for b.Loop() {
		h.reset()
		if fault := h.parse(raw); fault != nil {
			b.Fatal(fault)
		}
		if fault := h.parseTarget(u); fault != nil {
			b.Fatal(fault)
		}
	}
}
