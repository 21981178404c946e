package webhdfs_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"forebay/drain"
)

// A file's range has no gap: what comes later or was given back is in another file.
func TestRangeHasNoGap(t *testing.T) {
	c := newCluster(t)
	s := newSink(t, c.policy())
	done, settled := outcomes()
	for _, first := range []uint64{5, 6, 9, 3} {
		s.Collect(name, batch(first, noon, "x"))(t.Context(), settled)
	}
	s.Finish(name)
	for range 4 {
		if got := wait(t, done); got.Class != drain.Success {
			t.Errorf("settled with %+v", got)
		}
	}
	want := []string{day + fileOf("3", "3"), day + fileOf("5", "6"), day + fileOf("9", "9")}
	if got := c.names(); !slices.Equal(got, want) {
		t.Errorf("files: %q, want %q", got, want)
	}
}

// A NameNode that hangs costs one operation its time, and is passed over from then on.
func TestNameNodeHangs(t *testing.T) {
	c, free := newCluster(t), make(chan struct{})
	hangs := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-free }))
	defer hangs.Close()
	defer close(free)
	p := c.policy()
	p.WebHDFS.HTTP.URLs, p.WebHDFS.HTTP.Timeout = []*url.URL{at(t, hangs.URL), at(t, c.name.URL)}, time.Second
	s := newSink(t, p)
	done, settled := outcomes()
	s.Collect(name, batch(0, noon, "a"))(t.Context(), settled)
	if got := wait(t, done); got.Class != drain.Timeout || got.RetryAfter != time.Second {
		t.Errorf("settled with %+v", got)
	}
	eventually(t, "the other one is asked", func() bool {
		s.Collect(name, batch(0, noon, "a"))(t.Context(), settled)
		s.Finish(name)
		return wait(t, done).Class == drain.Success
	})
}

// A DataNode that cannot be reached is no reason to ask another NameNode, and after many
// times one to write the file again, where there may be others.
func TestDataNodeIsGone(t *testing.T) {
	c, standby := newCluster(t), newCluster(t)
	p := c.policy()
	p.WebHDFS.HTTP.URLs = []*url.URL{at(t, c.name.URL), at(t, standby.name.URL)}
	s := newSink(t, p)
	first, settledFirst := outcomes()
	s.Collect(name, batch(0, noon, "a"))(t.Context(), settledFirst)
	c.moved = "http://127.0.0.1:1"
	done, settled := outcomes()
	for n := range 6 {
		if len(first) > 0 {
			t.Fatalf("given up after %d times", n)
		}
		s.Collect(name, batch(1, noon, "b"))(t.Context(), settled)
		if got := wait(t, done); !strings.Contains(got.Error, "connection refused: 127.0.0.1:1") {
			t.Errorf("settled with %+v", got)
		}
	}
	if got := wait(t, first); got.Class == drain.Success {
		t.Errorf("the file is settled with %+v", got)
	}
	if n := standby.did("APPEND"); n > 0 {
		t.Errorf("another NameNode was asked %d times", n)
	}
}

// No file begins while many wait for their names.
func TestNamesAreRefused(t *testing.T) {
	c := newCluster(t)
	c.refusing(func(op, _ string, _ bool) *fault {
		if op == "RENAME" {
			return &fault{exception: "AccessControlException"}
		}
		return nil
	})
	s := newSink(t, c.policy())
	done, settled := outcomes()
	long := strings.Repeat("x", 100)
	for n := range uint64(4) {
		s.Collect(name, batch(n, noon, long))(t.Context(), settled)
	}
	eventually(t, "all want their names", func() bool { return c.did("RENAME") >= 4 })
	refused := ""
	eventually(t, "the reason is known", func() bool {
		s.Collect(name, batch(4, noon, long))(t.Context(), settled)
		refused = wait(t, done).Error
		return strings.Contains(refused, "AccessControlException")
	})
	if got := s.Gathering(); !strings.HasPrefix(refused, "files wait for their names: ") || len(got) != 4 || !got[0].Ending {
		t.Errorf("refused with %q; gathering: %+v", refused, got)
	}
	c.refusing(nil)
	for range 4 {
		if got := wait(t, done); got.Class != drain.Success {
			t.Errorf("settled with %+v", got)
		}
	}
}

// A file that a DataNode makes after it was given up is deleted all the same.
func TestFileComesLate(t *testing.T) {
	c := newCluster(t)
	c.refusing(func(_, _ string, atData bool) *fault {
		if atData {
			return &fault{hang: true}
		}
		return nil
	})
	s := newSink(t, c.policy())
	done, settled := outcomes()
	s.Collect(name, batch(0, noon, "a"))(t.Context(), settled)
	wait(t, done)
	eventually(t, "it was deleted once", func() bool { return c.did("DELETE") > 0 })
	c.mu.Lock()
	c.files[c.latest["DELETE"]] = "a\n"
	c.mu.Unlock()
	eventually(t, "it is deleted again", func() bool { return len(c.names()) == 0 })
}

// A stop that comes amid an addition waits for it.
func TestFinishAmidAnAddition(t *testing.T) {
	c, arrived, free := newCluster(t), make(chan struct{}), make(chan struct{})
	c.gate = func(op string) {
		if op == "APPEND" {
			close(arrived)
			<-free
		}
	}
	s := newSink(t, c.policy())
	done, settled := outcomes()
	s.Collect(name, batch(0, noon, "a"))(t.Context(), settled)
	added := make(chan struct{})
	go func() {
		defer close(added)
		s.Collect(name, batch(1, noon, "b"))(t.Context(), settled)
	}()
	<-arrived
	s.Finish(name)
	close(free)
	for range 2 {
		if got := wait(t, done); got.Class != drain.Success {
			t.Errorf("settled with %+v", got)
		}
	}
	<-added
	if got := c.text(day + fileOf("0", "1")); got != "a\nb\n" {
		t.Errorf("it holds %q; files: %q", got, c.names())
	}
}

// Two drains to one sink have files of their own, in one folder.
func TestTwoDrains(t *testing.T) {
	c := newCluster(t)
	s := newSink(t, c.policy())
	const other = "logs-to-archive-2-0badcafe"
	done, settled := outcomes()
	otherDone, otherSettled := outcomes()
	s.Collect(name, batch(0, noon, "a"))(t.Context(), settled)
	s.Collect(other, batch(0, noon, "b"))(t.Context(), otherSettled)
	s.Finish(other)
	if got := wait(t, otherDone); got.Class != drain.Success || len(done) > 0 {
		t.Errorf("settled with %+v, and %d of the other", got, len(done))
	}
	if _, err := s.Finished(t.Context(), other, noon, nil); err != nil {
		t.Fatal(err)
	}
	s.Finish(name)
	wait(t, done)
	want := map[string]string{fileOf("0", "0"): "a\n", strings.Replace(fileOf("0", "0"), name, other, 1): "b\n"}
	for file, text := range want {
		if got := c.text(day + file); got != text {
			t.Errorf("%s holds %q, want %q", file, got, text)
		}
	}
}
