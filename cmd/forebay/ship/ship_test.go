package ship

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func newStop(t *testing.T) (context.Context, context.CancelFunc) {
	return context.WithCancel(t.Context())
}

func numbered(prefix string, from, to int) string {
	var b strings.Builder
	for i := from; i < to; i++ {
		fmt.Fprintf(&b, "%s-%d\n", prefix, i)
	}
	return b.String()
}

func splitLines(text string) []string { return strings.Split(strings.TrimSuffix(text, "\n"), "\n") }

func want(t *testing.T, got []string, text string) {
	t.Helper()
	if diff := cmp.Diff(splitLines(text), got); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}

// Lines arrive as they are, empty ones left out, in batches of a bounded size; and a
// second run has nothing more to send.
func TestOnce(t *testing.T) {
	t.Parallel()
	for _, zstd := range []bool{false, true} {
		r := newReceiver(t)
		s := newSite(t, r, "*.log")
		s.cfg.Zstd, s.cfg.BatchSize = zstd, 2048
		text := numbered("line", 0, 1000)
		s.write("a.log", "\n\r\n"+text+"no end")
		s.write("empty.log", "")
		s.write("b.log.gz", "\x1f\x8b")
		sum, err := s.once()
		if err != nil || sum.Lines != 1001 || sum.Batches < 4 || sum.Retries+sum.Rejected+sum.LostBytes != 0 {
			t.Errorf("once = %+v, %v", sum, err)
		}
		want(t, r.all(), text+"no end")
		for name, body := range r.names {
			if len(body) > s.cfg.BatchSize {
				t.Errorf("batch %s has %d bytes", name, len(body))
			}
		}
		s.write("a.log", "ed\nlast\n")
		if sum, err = s.once(); err != nil || sum.Lines != 2 {
			t.Errorf("once again = %+v, %v, want two lines", sum, err)
		}
	}
}

// Renamed, truncated, replaced, deleted: every line that was there long enough to be
// read arrives once.
func TestRotation(t *testing.T) {
	r := newReceiver(t)
	s := newSite(t, r, "app.log")
	s.cfg.Linger = 50 * time.Millisecond
	stop := s.start()
	arrived := func(n int) {
		s.until(fmt.Sprintf("%d lines arrive", n), func() bool { return len(r.all()) >= n })
	}
	s.write("app.log", numbered("one", 0, 10)) // it appears later
	arrived(10)
	s.rename("app.log", "app.log.1")
	s.write("app.log.1", "one-late\n") // by who has it open
	s.write("app.log", numbered("two", 0, 10))
	arrived(21)
	if err := os.Truncate(s.path("app.log"), 0); err != nil {
		t.Fatal(err)
	}
	s.write("app.log", numbered("three", 0, 9))
	arrived(30)
	// Longer than before at the next look, and other.
	if err := os.WriteFile(s.path("app.log"), []byte(numbered("four", 0, 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	arrived(130)
	if err := os.Remove(s.path("app.log")); err != nil {
		t.Fatal(err)
	}
	s.write("app.log", "five\n")
	arrived(131)
	s.until("the old ones are closed", func() bool { return strings.Contains(s.state(), `"gone_at"`) })
	stop()
	got := r.all()
	slices.Sort(got)
	expect := splitLines(numbered("one", 0, 10) + "one-late\n" + numbered("two", 0, 10) + numbered("three", 0, 9) + numbered("four", 0, 100) + "five\n")
	slices.Sort(expect)
	if diff := cmp.Diff(expect, got); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}

func (s *site) state() string {
	raw, _ := os.ReadFile(s.cfg.State)
	return string(raw)
}

// What happens to the files while nobody follows them.
func TestRotatedMeanwhile(t *testing.T) {
	r := newReceiver(t)
	s := newSite(t, r, "app.log", "cut.log", "gone.log")
	for _, name := range []string{"app.log", "cut.log", "gone.log"} {
		s.write(name, name+" 1\n")
	}
	if _, err := s.once(); err != nil {
		t.Fatal(err)
	}
	s.write("app.log", "app.log 2\n")
	s.rename("app.log", "app.log.7")
	s.write("app.log", "app.log 3\n")
	if err := os.WriteFile(s.path("cut.log"), []byte("cut\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(s.path("gone.log")); err != nil {
		t.Fatal(err)
	}
	sum, err := s.once()
	got := r.all()
	slices.Sort(got)
	want(t, got, "app.log 1\napp.log 2\napp.log 3\ncut\ncut.log 1\ngone.log 1\n")
	if err != nil || sum.Lines != 3 || strings.Count(s.text(), "is lost, if there was any") != 2 {
		t.Errorf("once = %+v, %v; it said: %s", sum, err, s.text())
	}
}

// A line waits for its end, and not for ever; one that is too long is sent in pieces.
func TestLines(t *testing.T) {
	tests := []struct {
		name, b string
		hurry   bool
		want    int
	}{
		{"whole", "a\nb\n", false, 4},
		{"not whole", "a\nb", false, 2},
		{"alone", "b", false, 0},
		{"in a hurry", "a\nb", true, 3},
		{"size", "aaaa\nbbbb\ncccc\n", false, 10},
		{"too long", "aaaaaaaaaa\n", false, 8},
		{"too long after another", "a\naaaaaaaaaa\n", false, 2},
		{"just not too long", "aaaaaaaa\n", false, 9},
		{"characters stay whole", "aaaaaaaé\n", false, 7},
	}
	for _, tt := range tests {
		if got := cut([]byte(tt.b), 12, 8, tt.hurry); got != tt.want {
			t.Errorf("%s: cut %q = %d, want %d", tt.name, tt.b, got, tt.want)
		}
	}
	r := newReceiver(t)
	s := newSite(t, r, "a.log")
	s.cfg.LineWait, s.cfg.BatchSize, s.cfg.MaxLine = 20*time.Millisecond, 1024, 1024
	s.start()
	s.write("a.log", strings.Repeat("x", 2500)+"\nno end")
	s.until("it arrives", func() bool { return slices.Contains(r.all(), "no end") })
	if got := r.all(); len(got) != 4 || strings.Join(got[:3], "") != strings.Repeat("x", 2500) {
		t.Errorf("lines = %.40q", got)
	}
}

func TestSplitAt(t *testing.T) {
	b := []byte("a\nb\n\nd\ne")
	for bad, want := range map[int][]int{0: {4, 8}, 1: {2, 8}, 2: {2, 4, 8}, 3: {4, 5, 8}, 5: {7, 8}, 9: {4, 8}} {
		if got := splitAt(b, bad); !slices.Equal(got, want) {
			t.Errorf("split at %d = %v, want %v", bad, got, want)
		}
	}
	if got := splitAt([]byte("a\n"), 1); len(got) != 1 {
		t.Errorf("split of a line = %v", got)
	}
}

// While nobody takes batches, no more of them are in memory than are sent at a time.
func TestHeld(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	r.answer = func(int, string) (int, string, string) { return 503, "", "" }
	s := newSite(t, r, "*.log")
	for i := range 3 * atOnce {
		s.write(fmt.Sprintf("%d.log", i), "line\n")
	}
	stop := s.start()
	s.until("requests are repeated", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.n >= 3*atOnce
	})
	stop()
	if n := strings.Count(s.state(), `"waiting"`); n != atOnce {
		t.Errorf("%d batches are under way, want %d", n, atOnce)
	}
	r.mu.Lock()
	r.answer = nil
	r.mu.Unlock()
	if sum, err := s.once(); err != nil || sum.Lines != 3*atOnce {
		t.Errorf("once = %+v, %v", sum, err)
	}
}

// Who is asked to end waits for what is under way, and remembers that it was taken.
func TestEnd(t *testing.T) {
	r := newReceiver(t)
	asked, answer := make(chan bool), make(chan bool)
	r.answer = func(int, string) (int, string, string) {
		asked <- true
		<-answer
		return 0, "", ""
	}
	s := newSite(t, r, "a.log")
	s.write("a.log", "a\n")
	sh, err := Open(s.cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer sh.Close()
	ctx, cancel := newStop(t)
	done := make(chan Summary)
	go func() {
		sum, _ := sh.Run(ctx) // what it took says enough
		done <- sum
	}()
	<-asked
	cancel()
	select {
	case sum := <-done:
		t.Errorf("it ended amid a request: %+v", sum)
		close(answer)
	case answer <- true:
		if sum := <-done; sum.Lines != 1 || !sum.Interrupted || !strings.Contains(s.state(), `"acked":2`) {
			t.Errorf("it ended with %+v and the state %s", sum, s.state())
		}
	}
}

// A file with much does not hold up one with little.
func TestFair(t *testing.T) {
	r := newReceiver(t)
	s := newSite(t, r, "*.log")
	s.cfg.BatchSize = 1024
	for i := range 6 {
		s.write(fmt.Sprintf("big-%d.log", i), numbered("big", 0, 2000))
	}
	s.write("small.log", "small\n")
	at := 0
	r.answer = func(n int, body string) (int, string, string) {
		if body == "small\n" {
			at = n
		}
		return 0, "", ""
	}
	if _, err := s.once(); err != nil {
		t.Fatal(err)
	}
	if at > 12 {
		t.Errorf("the small file's batch was request %d of %d", at, r.n)
	}
}

// From the end means the lines that come from now on, once.
func TestFromEnd(t *testing.T) {
	r := newReceiver(t)
	s := newSite(t, r, "*.log")
	s.cfg.FromEnd = true
	s.write("a.log", "old\nbegun")
	stop := s.start()
	s.until("it is known", func() bool { return strings.Contains(s.state(), "a.log") })
	s.write("a.log", " and ended\n")
	s.write("b.log", "new\n")
	s.until("both arrive", func() bool { return len(r.all()) == 2 })
	if sum := stop(); !sum.Interrupted {
		t.Errorf("%+v, want it interrupted", sum)
	}
	s.write("c.log", "later\n")
	if _, err := s.once(); err != nil {
		t.Fatal(err)
	}
	got := r.all()
	slices.Sort(got)
	want(t, got, "begun and ended\nlater\nnew\n")
}

func TestState(t *testing.T) {
	s := newSite(t, newReceiver(t), "a.log")
	first, err := Open(s.cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(s.cfg); !errors.Is(err, ErrInUse) {
		t.Errorf("a second process = %v, want %v", err, ErrInUse)
	}
	first.Close()
	for _, text := range []string{"", "{}", `{"version":2}`, `{"version":1,"files":[{"name":"a","acked":9,"waiting":[3]}]}`} {
		if err := os.WriteFile(s.cfg.State, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(s.cfg); !errors.Is(err, ErrState) {
			t.Errorf("state %q = %v, want %v", text, err, ErrState)
		}
	}
	long := time.Now().Add(-remember - time.Hour)
	if got := remembered([]entry{{Name: "a"}, {Name: "b", GoneAt: &long}}, time.Now()); len(got) != 1 || got[0].Name != "a" {
		t.Errorf("remembered = %+v", got)
	}
}

// The key goes along, and is read again when it was exchanged.
func TestKey(t *testing.T) {
	r := newReceiver(t)
	s := newSite(t, r, "a.log")
	s.cfg.KeyFile, s.cfg.KeyName = s.path("key"), "X-Api-Key"
	s.cfg.Header = http.Header{"X-Tenant": {"shop"}}
	for i, key := range []string{"one", "two"} {
		if err := os.WriteFile(s.cfg.KeyFile, []byte(key+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		s.write("a.log", key+"\n")
		if _, err := s.once(); err != nil {
			t.Fatal(err)
		}
		h := r.headers[i]
		if h.Get("X-Api-Key") != key || h.Get("X-Tenant") != "shop" || h.Get("Content-Type") != "text/plain; charset=utf-8" || h.Get("Batch-Id") == "" {
			t.Errorf("header %v, want the key %s", h, key)
		}
	}
	s.write("key", "and more")
	if _, err := ReadKey(s.cfg.KeyFile); err == nil || strings.Contains(err.Error(), "two") {
		t.Errorf("a key of two words = %v", err)
	}
}
