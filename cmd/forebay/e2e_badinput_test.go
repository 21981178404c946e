package main_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
)

// raw sends bytes as they are and reads one answer.
func raw(t *testing.T, public, request string) reply {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(public, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatalf("write the request: %v", err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("read the answer: %v", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("read the answer's body: %v", err)
	}
	return reply{status: resp.StatusCode, header: resp.Header, body: body}
}

func TestBadRequests(t *testing.T) {
	shop := newSink(t, nil)
	srv := newSite(t, orderPolicy(shop.url, "100/s")).start()
	big := strings.Repeat("x", 64<<10+1)
	unknownID := strings.Repeat("a", 26)

	tests := []struct {
		name, request string
		status        int
		problem       string
		allow         string
	}{
		{
			name:    "declared length over the limit, body never sent",
			request: "POST /v1/orders HTTP/1.1\r\nHost: shop\r\nContent-Length: 10485760\r\n\r\n",
			status:  413, problem: "urn:forebay:problem:too-large",
		},
		{
			name:    "chunked body over the limit",
			request: fmt.Sprintf("POST /v1/orders HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(big), big),
			status:  413, problem: "urn:forebay:problem:too-large",
		},
		{
			name:    "unknown route",
			request: "POST /v1/nothing HTTP/1.1\r\nHost: shop\r\nContent-Length: 2\r\n\r\n{}",
			status:  404, problem: "urn:forebay:problem:no-route",
		},
		{
			name:    "wrong method",
			request: "GET /v1/orders HTTP/1.1\r\nHost: shop\r\n\r\n",
			status:  405, problem: "urn:forebay:problem:method-not-allowed", allow: "POST",
		},
		{
			name:    "a receipt that was never given out",
			request: "GET /.forebay/receipts/" + unknownID + " HTTP/1.1\r\nHost: shop\r\n\r\n",
			status:  404, problem: "urn:forebay:problem:no-receipt",
		},
		{
			name:    "something else under our own prefix",
			request: "GET /.forebay/admin HTTP/1.1\r\nHost: shop\r\n\r\n",
			status:  404,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := raw(t, srv.public, tt.request)
			if r.status != tt.status {
				t.Fatalf("status %d, want %d: %s", r.status, tt.status, r.body)
			}
			if got := problemType(t, r); tt.problem != "" && got != tt.problem {
				t.Errorf("type %q, want %q", got, tt.problem)
			}
			if tt.allow != "" && r.header.Get("Allow") != tt.allow {
				t.Errorf("Allow %q, want %q", r.header.Get("Allow"), tt.allow)
			}
		})
	}
	if got := audit(t, srv); got.Accepted != 0 {
		t.Errorf("audit = %+v, want nothing accepted", got)
	}
}

var mistakeLine = regexp.MustCompile(`(?m)^(.*):(\d+):(\d+): error: `)

func TestMalformedPolicy(t *testing.T) {
	policy := orderPolicy("http://127.0.0.1:1", "ten a second")
	line := strings.Count(policy[:strings.Index(policy, "ten a second")], "\n") + 1
	site := newSite(t, policy)
	check := func(t *testing.T, stderr string, code int) {
		t.Helper()
		if code != 1 {
			t.Errorf("exit %d, want 1", code)
		}
		if m := mistakeLine.FindStringSubmatch(stderr); m == nil || m[1] != site.policyFile() || m[2] != fmt.Sprint(line) {
			t.Errorf("no policy.yaml:%d:COLUMN: error: … in:\n%s", line, stderr)
		}
		if !strings.Contains(stderr, "hint: ") {
			t.Errorf("no hint in:\n%s", stderr)
		}
	}
	t.Run("check", func(t *testing.T) {
		_, stderr, code := command(t, "check", site.policyFile())
		check(t, stderr, code)
	})
	t.Run("serve", func(t *testing.T) {
		srv := site.launch()
		code := srv.exit(10 * time.Second)
		check(t, srv.stderr.tail(keptLines), code)
		if _, err := os.Stat(site.data()); !os.IsNotExist(err) {
			t.Errorf("stat of the data directory: %v, want that none was made", err)
		}
	})
}

func TestWrongUse(t *testing.T) {
	for _, args := range [][]string{{"no-such-command"}, {"serve", "--no-such-flag"}, {"check"}} {
		if _, stderr, code := command(t, args...); code != 2 || stderr == "" {
			t.Errorf("forebay %v: exit %d, stderr %q, want 2 and a reason", args, code, stderr)
		}
	}
}
