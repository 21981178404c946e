package ship

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Lines that are refused are put aside, whether or not the receiver names them, and
// the others arrive in order.
func TestBadLines(t *testing.T) {
	t.Parallel()
	for _, names := range []bool{true, false} {
		r := newReceiver(t)
		r.answer = func(_ int, body string) (int, string, string) {
			for i, line := range strings.Split(body, "\n") {
				if strings.HasPrefix(line, "bad") && names {
					return http.StatusBadRequest, "", fmt.Sprintf(`{"title":"Bad line","detail":"it is bad","line":%d}`, i+1)
				}
			}
			if strings.Contains(body, "bad") {
				return http.StatusRequestEntityTooLarge, "", ""
			}
			return 0, "", ""
		}
		s := newSite(t, r, "a.log")
		good := numbered("good", 0, 50)
		s.write("a.log", "bad 1\n"+good+"\nbad \xff\n"+good+"bad 3")
		sum, err := s.once()
		if err != nil || sum.Lines != 100 || sum.Rejected != 3 {
			t.Errorf("once = %+v, %v", sum, err)
		}
		want(t, r.all(), good+good)
		raw, err := os.ReadFile(s.cfg.Rejected)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for line := range strings.Lines(string(raw)) {
			var j rejection
			if err := json.Unmarshal([]byte(line), &j); err != nil || j.Status < 400 || j.File != s.path("a.log") {
				t.Errorf("%q: %v", line, err)
			}
			if j.Line == nil {
				text := string(j.Bytes)
				j.Line = &text
			}
			got = append(got, fmt.Sprintf("%d %s", j.Offset, *j.Line))
		}
		if diff := cmp.Diff([]string{"0 bad 1", fmt.Sprintf("%d bad \xff", 7+len(good)), fmt.Sprintf("%d bad 3", 13+2*len(good))}, got); diff != "" {
			t.Errorf("rejected (-want +got):\n%s", diff)
		}
	}
}

// A proxy that says 400 to all does not make rejects of all.
func TestStrangeRefusals(t *testing.T) {
	t.Parallel()
	for _, ours := range []bool{false, true} {
		r := newReceiver(t)
		r.answer = func(int, string) (int, string, string) {
			if ours {
				return 400, "", `{"type":"urn:forebay:problem:bad-line","line":1}`
			}
			return 400, "", "plain HTTP was sent to an HTTPS port"
		}
		s := newSite(t, r, "a.log")
		s.write("a.log", numbered("a", 0, 2*maxStrange))
		switch sum, err := s.once(); {
		case ours && (err != nil || sum.Rejected != 2*maxStrange):
			t.Errorf("once = %+v, %v, want all rejected", sum, err)
		case !ours && (err == nil || sum.Rejected != maxStrange):
			t.Errorf("once = %+v, %v, want it to fail after %d", sum, err, maxStrange)
		}
		r.answer = nil
		if sum, err := s.once(); err != nil || sum.Lines+sum.Rejected != 0 && ours || sum.Lines != maxStrange && !ours {
			t.Errorf("once again = %+v, %v", sum, err)
		}
	}
}

// What was stored with other content under a batch's name is put aside whole.
func TestAltered(t *testing.T) {
	r := newReceiver(t)
	r.answer = func(int, string) (int, string, string) { return 422, "", "{}" }
	s := newSite(t, r, "a.log")
	s.write("a.log", "a\nb\n")
	if sum, err := s.once(); err != nil || sum.Rejected != 2 || sum.Lines != 0 || r.n != 1 {
		t.Errorf("once = %+v, %v after %d requests", sum, err, r.n)
	}
}

// Whatever is answered, what was not taken is sent again under its name; where no
// patience helps, a run that has an end fails.
func TestFailures(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	r.answer = func(n int, _ string) (int, string, string) {
		switch n {
		case 1:
			return http.StatusServiceUnavailable, "Retry-After: 1", `{"reason":"buffer-full"}`
		case 2:
			panic(http.ErrAbortHandler)
		}
		return 0, "", ""
	}
	s := newSite(t, r, "a.log")
	s.write("a.log", "a\n")
	began := time.Now()
	sum, err := s.once()
	if err != nil || sum.Lines != 1 || sum.Retries != 2 || time.Since(began) < time.Second {
		t.Errorf("once = %+v, %v after %v", sum, err, time.Since(began))
	}
	if !strings.Contains(s.text(), "503 Service Unavailable: buffer-full; nothing is lost") || !strings.Contains(s.text(), "taken again") {
		t.Errorf("it said: %s", s.text())
	}
	for status, text := range map[int]string{401: "401 Unauthorized", 404: "404 Not Found: no route", 301: "301 Moved"} {
		r := newReceiver(t)
		r.answer = func(int, string) (int, string, string) { return status, "Location: /", `{"detail":"no route"}` }
		s := newSite(t, r, "a.log")
		s.write("a.log", "a\n")
		if sum, err := s.once(); err == nil || !strings.Contains(err.Error(), text) || sum.Lines != 0 {
			t.Errorf("%d: once = %+v, %v", status, sum, err)
		}
		r.answer = nil
		if sum, err := s.once(); err != nil || sum.Lines != 1 {
			t.Errorf("%d: once again = %+v, %v", status, sum, err)
		}
	}
	r = newReceiver(t)
	r.answer = func(int, string) (int, string, string) { return 202, "", `{"id":"2VQ"}` }
	s = newSite(t, r, "a.log")
	s.write("a.log", "a\nb\n")
	if _, err := s.once(); err == nil || !strings.Contains(err.Error(), "has to say split: lines") {
		t.Errorf("a route that does not split = %v", err)
	}
}
