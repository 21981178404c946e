package ingress

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// hidden is a request in what comes behind another one.
const hidden = "POST /v1/orders?hidden HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"

// smugglers are requests of which two readers could see different ends, each followed
// by hidden. FIELDS stands for the request line and Host.
var smugglers = map[string]string{
	"length and chunks":           "FIELDSContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"chunks and length":           "FIELDSTransfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\n",
	"chunks and a long length":    "FIELDSTransfer-Encoding: chunked\r\nContent-Length: 60\r\n\r\n0\r\n\r\n",
	"two lengths":                 "FIELDSContent-Length: 0\r\nContent-Length: 60\r\n\r\n",
	"two equal lengths":           "FIELDSContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
	"list of lengths":             "FIELDSContent-Length: 0, 60\r\n\r\n",
	"signed length":               "FIELDSContent-Length: +0\r\n\r\n",
	"negative length":             "FIELDSContent-Length: -1\r\n\r\n",
	"hexadecimal length":          "FIELDSContent-Length: 0x0\r\n\r\n",
	"length with a space":         "FIELDSContent-Length: 0 0\r\n\r\n",
	"length beyond numbers":       "FIELDSContent-Length: 18446744073709551616\r\n\r\n",
	"empty length":                "FIELDSContent-Length:\r\n\r\n",
	"coding xchunked":             "FIELDSTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
	"coding in a list":            "FIELDSTransfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n",
	"coding with a parameter":     "FIELDSTransfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n",
	"coding twice":                "FIELDSTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n",
	"coding in quotes":            "FIELDSTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n",
	"coding behind a tab":         "FIELDSTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
	"coding behind a NUL":         "FIELDSTransfer-Encoding: chunked\x00\r\n\r\n0\r\n\r\n",
	"empty coding":                "FIELDSTransfer-Encoding:\r\nContent-Length: 0\r\n\r\n",
	"space before the colon":      "FIELDSTransfer-Encoding : chunked\r\nContent-Length: 0\r\n\r\n",
	"tab before the colon":        "FIELDSContent-Length\t: 60\r\n\r\n",
	"folded coding":               "FIELDSTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
	"folded length":               "FIELDSContent-Length: 0\r\n 60\r\n\r\n",
	"fold first":                  "FIELDS Content-Length: 60\r\n\r\n",
	"bare LF between fields":      "FIELDSX: a\nContent-Length: 60\r\n\r\n",
	"bare LF at the end":          "FIELDSContent-Length: 0\r\n\n",
	"bare LF throughout":          "POST /v1/orders HTTP/1.1\nHost: h\nContent-Length: 0\n\n",
	"bare CR between fields":      "FIELDSX: a\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"CR before a name":            "FIELDS\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"two hosts":                   "FIELDSHost: other\r\nContent-Length: 0\r\n\r\n",
	"no host":                     "POST /v1/orders HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
	"folded host":                 "POST /v1/orders HTTP/1.1\r\nHost:\r\n h\r\nContent-Length: 0\r\n\r\n",
	"host with a space":           "POST /v1/orders HTTP/1.1\r\nHost: h other\r\nContent-Length: 0\r\n\r\n",
	"nameless field":              "FIELDS: x\r\nContent-Length: 0\r\n\r\n",
	"chunk of signed size":        "CHUNKS+3\r\nabc\r\n0\r\n\r\n",
	"chunk of negative size":      "CHUNKS-3\r\nabc\r\n0\r\n\r\n",
	"chunk of size 0x3":           "CHUNKS0x3\r\nabc\r\n0\r\n\r\n",
	"chunk of size 3_0":           "CHUNKS3_0\r\nabc\r\n0\r\n\r\n",
	"chunk of size beyond":        "CHUNKS10000000000000003\r\nabc\r\n0\r\n\r\n",
	"chunk of size far beyond":    "CHUNKSffffffffffffffffffffff\r\nabc\r\n0\r\n\r\n",
	"chunk of no size":            "CHUNKS\r\nabc\r\n0\r\n\r\n",
	"space before a size":         "CHUNKS 3\r\nabc\r\n0\r\n\r\n",
	"space behind a size":         "CHUNKS3 \r\nabc\r\n0\r\n\r\n",
	"tab before a size":           "CHUNKS\t3\r\nabc\r\n0\r\n\r\n",
	"size ends in LF":             "CHUNKS3\nabc\r\n0\r\n\r\n",
	"size ends in CR":             "CHUNKS3\rabc\r\n0\r\n\r\n",
	"extension with LF":           "CHUNKS3;x\nabc\r\n0\r\n\r\n",
	"extension with CR":           "CHUNKS3;x\ry\r\nabc\r\n0\r\n\r\n",
	"extension with NUL":          "CHUNKS3;x\x00\r\nabc\r\n0\r\n\r\n",
	"extension without end":       "CHUNKS3;" + strings.Repeat("x", 9000) + "\r\nabc\r\n0\r\n\r\n",
	"chunk longer than its size":  "CHUNKS3\r\nabcd\r\n0\r\n\r\n",
	"chunk without its end":       "CHUNKS3\r\nabc0\r\n\r\n",
	"chunk that ends in LF":       "CHUNKS3\r\nabc\n0\r\n\r\n",
	"last chunk that ends in LF":  "CHUNKS0\n\r\n",
	"trailer with LF":             "CHUNKS0\r\nX: a\n\r\n",
	"trailer without a colon":     "CHUNKS0\r\nX\r\n\r\n",
	"trailer that folds":          "CHUNKS0\r\nX: a\r\n b\r\n\r\n",
	"body on HTTP/1.0 in chunks":  "POST /v1/orders HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"HTTP/0.9":                    "POST /v1/orders\r\n\r\n",
	"HTTP/1.10":                   "POST /v1/orders HTTP/1.10\r\nHost: h\r\n\r\n",
	"HTTP/2's preface":            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	"two spaces":                  "POST  /v1/orders HTTP/1.1\r\nHost: h\r\n\r\n",
	"target with a line":          "POST /v1/orders\r HTTP/1.1\r\nHost: h\r\n\r\n",
	"empty lines before":          "\r\n\r\nPOST /v1/orders HTTP/1.1\r\nHost: h\r\n\r\n",
	"expects a body out of reach": "FIELDSExpect: 100-continue\r\nContent-Length: 99999999\r\n\r\n",
}

// leads come before a smuggler on its connection: what follows the last two is read by
// net/http, if it is read at all.
var leads = map[string]string{
	"first":            "",
	"second":           "POST /v1/orders?first HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}",
	"after HTTP/1.0":   "POST /v1/orders?first HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n{}",
	"after an upgrade": "POST /v1/orders?first HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n\r\n{}",
	"after h2c":        "POST /v1/orders?first HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\nContent-Length: 2\r\n\r\n{}",
}

func smuggler(s string) string {
	const fields = "POST /v1/orders HTTP/1.1\r\nHost: h\r\n"
	s = strings.Replace(s, "FIELDS", fields, 1)
	return strings.Replace(s, "CHUNKS", fields+"Transfer-Encoding: chunked\r\n\r\n", 1) + hidden
}

// sendAll sends raw and reads all answers, to the end of the connection.
func sendAll(t *testing.T, f *fixture, raw string) (statuses []int) {
	t.Helper()
	c := serve(t, f)
	// One who waits for more, in vain, fails the test.
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(c, raw) // it may be refused meanwhile
	r := bufio.NewReader(c)
	for {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			if n := r.Buffered(); n > 0 || c.SetDeadline(time.Now()) != nil {
				t.Errorf("%d bytes that are no answer: %v", n, err)
			}
			return statuses
		}
		_, _ = io.Copy(io.Discard, resp.Body) // its end is the next one's beginning
		statuses = append(statuses, resp.StatusCode)
		if resp.Close {
			return statuses
		}
	}
}

// TestSmuggling: nothing that hides behind a request is taken for one, whichever of the two
// servers reads it, and the connection ends there.
func TestSmuggling(t *testing.T) {
	for name, s := range smugglers {
		t.Run(name, func(t *testing.T) {
			for where, lead := range leads {
				f := newFixture(t)
				statuses := sendAll(t, f, lead+smuggler(s))
				stored := 0
				for _, m := range f.buf.messages {
					if m.Target != "/v1/orders?first" {
						t.Errorf("%s: %q is stored, body %q", where, m.Target, m.Body)
					}
					stored++
				}
				if lead != "" && (stored != 1 || len(statuses) == 0 || statuses[0] != 202) {
					t.Errorf("%s: the request before it: statuses %v, %d stored", where, statuses, stored)
				}
				last := 0
				if len(statuses) > 0 {
					last = statuses[len(statuses)-1]
				}
				// Behind what net/http was handed nothing is read.
				if (where == "first" || where == "second") && last != 400 && last != 413 {
					t.Errorf("%s: statuses %v, want 400 or 413 at the end", where, statuses)
				}
			}
		})
	}
}

// TestHiddenIsARequest: it would be stored where it was read, as the second of two sound ones.
func TestHiddenIsARequest(t *testing.T) {
	for name, s := range map[string]string{
		"length": "FIELDSContent-Length: 2\r\n\r\n{}",
		"chunks": "CHUNKS2;ext=1\r\n{}\r\n0\r\nX: trailer\r\n\r\n",
	} {
		f := newFixture(t)
		sendAll(t, f, smuggler(s)+"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
		if len(f.buf.messages) != 2 || f.buf.messages[1].Target != "/v1/orders?hidden" || string(f.buf.messages[0].Body) != "{}" {
			t.Errorf("%s: stored %+v, want two requests", name, f.buf.messages)
		}
	}
}
