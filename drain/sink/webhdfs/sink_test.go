package webhdfs_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"forebay/drain"
	"forebay/drain/sink/webhdfs"
	"forebay/policies"
)

const (
	day  = "/logs/dt=2027-11-11/"
	name = "logs-to-archive-0badcafe"
)

func fileOf(first, last string) string {
	return "forebay-" + name + "-" + strings.Repeat("0", 20-len(first)) + first + "-" + strings.Repeat("0", 20-len(last)) + last + ".log"
}

// A file gets its name, and its messages are delivered, once it is large enough.
func TestFileIsRolled(t *testing.T) {
	c := newCluster(t)
	s := newSink(t, c.policy())
	done, settled := outcomes()
	s.Collect(name, batch(7, noon, "one", "two\n", `{"a":`+"\n"+`1}`, "not\njson"))(t.Context(), settled)
	if len(done) != 0 {
		t.Fatalf("settled with %+v while the file is written", <-done)
	}
	if got := c.names(); len(got) != 1 || !strings.HasPrefix(got[0], day+".forebay-"+name) || !strings.HasSuffix(got[0], ".tmp") {
		t.Fatalf("files: %q", got)
	}
	if got := s.Gathering(); len(got) != 1 || got[0].Messages != 4 || got[0].Bytes != 25 || got[0].Drain != name {
		t.Errorf("gathering: %+v", got)
	}
	s.Collect(name, batch(11, noon, strings.Repeat("x", 90)))(t.Context(), settled)
	for range 2 {
		if got := wait(t, done); got.Class != drain.Success {
			t.Errorf("settled with %+v", got)
		}
	}
	want := []string{day + fileOf("7", "11")}
	if diff := cmp.Diff(want, c.names()); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if got, want := c.text(want[0]), "one\ntwo\n{\"a\":1}\nnot\njson\n"+strings.Repeat("x", 90)+"\n"; got != want {
		t.Errorf("it holds %q, want %q", got, want)
	}
	if got := s.Gathering(); len(got) != 0 {
		t.Errorf("still gathering: %+v", got)
	}
}

// Finish, the age and another sink in the policy end a file early; another day's message
// begins one.
func TestFileEndsEarly(t *testing.T) {
	for how, end := range map[string]func(*webhdfs.Sink, func(drain.Outcome)){
		"finish":   func(s *webhdfs.Sink, _ func(drain.Outcome)) { s.Finish(name) },
		"replaced": func(s *webhdfs.Sink, _ func(drain.Outcome)) { s.CloseIdleConnections() },
		"age":      func(*webhdfs.Sink, func(drain.Outcome)) {},
		"the next day": func(s *webhdfs.Sink, f func(drain.Outcome)) {
			s.Collect(name, batch(9, noon.Add(12*time.Hour), "c"))(t.Context(), f)
		},
	} {
		t.Run(how, func(t *testing.T) {
			c := newCluster(t)
			p := c.policy()
			if how == "age" {
				p.WebHDFS.Roll.MaxAge = 10 * time.Millisecond
			}
			s := newSink(t, p)
			done, settled := outcomes()
			s.Collect(name, batch(7, noon, "a", "b"))(t.Context(), settled)
			end(s, func(drain.Outcome) {})
			if got := wait(t, done); got.Class != drain.Success {
				t.Errorf("settled with %+v", got)
			}
			if got, want := c.names(), day+fileOf("7", "8"); !slices.Contains(got, want) {
				t.Errorf("files: %q, want %s", got, want)
			}
		})
	}
}

func TestTogetherIsADayWithoutAGap(t *testing.T) {
	p := newCluster(t).policy()
	if got := newSink(t, p).Together(append(batch(0, noon, "a", "b"), batch(3, noon, "d")...)); got != 2 {
		t.Errorf("%d before a gap, want 2", got)
	}
	msgs := append(batch(0, noon, "a", "b"), batch(2, noon.Add(5*time.Hour), "c")...)
	if got := newSink(t, p).Together(msgs); got != 3 {
		t.Errorf("in UTC %d of one day, want 3", got)
	}
	p.WebHDFS.Location = time.FixedZone("CST", 8*3600) // 20:00 and 01:00
	if got := newSink(t, p).Together(msgs); got != 2 {
		t.Errorf("eight hours on %d of one day, want 2", got)
	}
}

func TestCompression(t *testing.T) {
	for kind, open := range map[string]func(io.Reader) (io.Reader, error){
		"gzip": func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) },
		"zstd": func(r io.Reader) (io.Reader, error) { return zstd.NewReader(r) },
	} {
		t.Run(kind, func(t *testing.T) {
			c := newCluster(t)
			p := c.policy()
			p.WebHDFS.Compression, p.WebHDFS.Roll.MaxBytes = kind, 1<<20
			s := newSink(t, p)
			done, settled := outcomes()
			s.Collect(name, batch(0, noon, "a", "b"))(t.Context(), settled)
			s.Collect(name, batch(2, noon, "c"))(t.Context(), settled)
			s.Finish(name)
			wait(t, done)
			file := c.names()[0]
			r, err := open(bytes.NewReader([]byte(c.text(file))))
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(r)
			if err != nil || string(text) != "a\nb\nc\n" {
				t.Errorf("%s holds %q, %v", file, text, err)
			}
			if want := map[string]string{"gzip": ".log.gz", "zstd": ".log.zst"}[kind]; !strings.HasSuffix(file, want) {
				t.Errorf("%s, want %s", file, want)
			}
		})
	}
}

// What fails before data may have arrived leaves the file as it is; what fails later ends
// it, and its messages go back together.
func TestFailures(t *testing.T) {
	tests := map[string]struct {
		exception string
		atData    bool
		after     bool
		hang      bool
		ends      bool // the file
		rests     time.Duration
	}{
		"safe mode":           {exception: "SafeModeException", rests: time.Second},
		"no rights":           {exception: "AccessControlException", rests: time.Minute},
		"quota":               {exception: "DSQuotaExceededException", rests: time.Minute},
		"removed":             {exception: "FileNotFoundException", ends: true, rests: time.Second},
		"a lease held":        {exception: "AlreadyBeingCreatedException", atData: true, ends: true, rests: time.Second},
		"written and refused": {exception: "IOException", atData: true, after: true, ends: true, rests: time.Second},
		"no answer":           {atData: true, after: true, hang: true, ends: true, rests: time.Second},
	}
	for what, tt := range tests {
		t.Run(what, func(t *testing.T) {
			c := newCluster(t)
			s := newSink(t, c.policy())
			done, settled := outcomes()
			s.Collect(name, batch(0, noon, "a"))(t.Context(), settled)
			c.refusing(func(op, _ string, atData bool) *fault {
				if op != "APPEND" || atData != tt.atData {
					return nil
				}
				return &fault{tt.exception, tt.after, tt.hang}
			})
			s.Collect(name, batch(1, noon, "b"))(t.Context(), settled)
			rests := []time.Duration{tt.rests}
			if tt.ends {
				rests = []time.Duration{0, tt.rests} // once for the file
			}
			for _, want := range rests {
				if got := wait(t, done); got.Class == drain.Success || got.RetryAfter != want || !strings.Contains(got.Error, tt.exception) {
					t.Errorf("settled with %+v, want a rest of %v", got, want)
				}
			}
			c.refusing(nil)
			want := []string{day + fileOf("0", "1")}
			if again := batch(1, noon, "b"); tt.ends {
				s.Collect(name, append(batch(0, noon, "a"), again...))(t.Context(), settled)
			} else {
				s.Collect(name, again)(t.Context(), settled)
			}
			s.Finish(name)
			if got := wait(t, done); got.Class != drain.Success {
				t.Errorf("in the end settled with %+v", got)
			}
			eventually(t, "the files are as they should be", func() bool { return slices.Equal(c.names(), want) })
			if got := c.text(want[0]); got != "a\nb\n" {
				t.Errorf("it holds %q", got)
			}
		})
	}
}

// A rename is tried until it is known to be done, and not done twice.
func TestRename(t *testing.T) {
	for what, tt := range map[string]struct {
		faults []fault
		taken  bool // a file of that range is there
	}{
		"at once":                   {},
		"in safe mode":              {faults: []fault{{exception: "SafeModeException"}, {exception: "SafeModeException"}}},
		"the answer is lost":        {faults: []fault{{after: true, hang: true}}},
		"the range is there before": {taken: true},
	} {
		t.Run(what, func(t *testing.T) {
			c := newCluster(t)
			if tt.taken {
				c.files[day+fileOf("0", "0")] = "a\n"
			}
			c.refusing(func(op, _ string, _ bool) *fault {
				if op != "RENAME" || len(tt.faults) == 0 {
					return nil
				}
				f := tt.faults[0]
				tt.faults = tt.faults[1:]
				return &f
			})
			s := newSink(t, c.policy())
			done, settled := outcomes()
			s.Collect(name, batch(0, noon, "a"))(t.Context(), settled)
			s.Finish(name)
			if got := wait(t, done); got.Class != drain.Success {
				t.Errorf("settled with %+v", got)
			}
			eventually(t, "there is one file", func() bool { return slices.Equal(c.names(), []string{day + fileOf("0", "0")}) })
		})
	}
}

// A file that somebody removed is written again.
func TestFileIsGone(t *testing.T) {
	c := newCluster(t)
	s := newSink(t, c.policy())
	done, settled := outcomes()
	s.Collect(name, batch(0, noon, "a"))(t.Context(), settled)
	c.mu.Lock()
	clear(c.files)
	c.mu.Unlock()
	s.Finish(name)
	if got := wait(t, done); got.Class == drain.Success || !strings.Contains(got.Error, "removed") {
		t.Errorf("settled with %+v", got)
	}
}

// A stop that comes before the name leaves the messages where they were.
func TestStopBeforeTheName(t *testing.T) {
	c := newCluster(t)
	c.refusing(func(op, _ string, _ bool) *fault {
		if op == "RENAME" {
			return &fault{exception: "SafeModeException"}
		}
		return nil
	})
	s := newSink(t, c.policy())
	done, settled := outcomes()
	ctx, cancel := context.WithCancel(t.Context())
	s.Collect(name, batch(0, noon, "a"))(ctx, settled)
	s.Finish(name)
	eventually(t, "a rename is tried", func() bool { return c.did("RENAME") > 0 })
	cancel()
	if got := wait(t, done); got.Class == drain.Success {
		t.Errorf("settled with %+v", got)
	}
}

// What may not begin is not sent, and the file goes on.
func TestNotBegun(t *testing.T) {
	c := newCluster(t)
	s := newSink(t, c.policy())
	done, settled := outcomes()
	s.Collect(name, batch(0, noon, "a"))(t.Context(), settled)
	closed := drain.WithBegin(t.Context(), func() error { return errors.New("the window has ended") })
	s.Collect(name, batch(1, noon, "b"))(closed, settled)
	if got := wait(t, done); !got.Unsent {
		t.Errorf("settled with %+v", got)
	}
	s.Finish(name)
	if got := wait(t, done); got.Class != drain.Success {
		t.Errorf("settled with %+v", got)
	}
	if got := c.text(day + fileOf("0", "0")); got != "a\n" {
		t.Errorf("it holds %q", got)
	}
}

// At a start what has its name is known, and what has none is deleted: of this drain alone.
func TestFinished(t *testing.T) {
	c := newCluster(t)
	now := time.Now().UTC()
	folder := func(days int) string { return "/logs/dt=" + now.AddDate(0, 0, days).Format(time.DateOnly) + "/" }
	day, next, before := folder(0), folder(1), folder(-2)
	others := []string{
		day + "part-00000", day + ".forebay-logs-to-archive-00000000-00000000000000000000-1.tmp",
		day + "forebay-logs-to-archive-00000000-00000000000000000000-00000000000000000005.log",
	}
	for _, file := range append(others, day+fileOf("3", "9"), day+fileOf("10", "12")+".gz", next+fileOf("13", "13"), before+fileOf("0", "2"),
		day+".forebay-"+name+"-00000000000000000014-99.tmp") {
		c.files[file] = "x"
	}
	s := newSink(t, c.policy())
	got, err := s.Finished(t.Context(), name, now, nil)
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(got, func(a, b drain.Range) int { return int(a.First) - int(b.First) })
	if diff := cmp.Diff([]drain.Range{{First: 3, Last: 9}, {First: 10, Last: 12}, {First: 13, Last: 13}}, got); diff != "" {
		t.Errorf("ranges (-want +got):\n%s", diff)
	}
	for _, file := range others {
		if c.text(file) == "" {
			t.Errorf("%s, which is another's, is gone", file)
		}
	}
	if strings.Contains(strings.Join(c.names(), " "), name+"-00000000000000000014-99.tmp") {
		t.Error("what was left unfinished is still there")
	}
	c.refusing(func(string, string, bool) *fault { return &fault{exception: "SafeModeException"} })
	if _, err := s.Finished(t.Context(), name, now, nil); err == nil || !strings.Contains(err.Error(), "SafeModeException") {
		t.Errorf("in safe mode: %v", err)
	}
}

// A start looks in the paths of earlier policies too, but for those that are closed by now.
func TestFinishedElsewhere(t *testing.T) {
	c := newCluster(t)
	today := "/old/" + time.Now().UTC().Format(time.DateOnly) + "/"
	left := ".forebay-" + name + "-00000000000000000014-99.tmp"
	for _, file := range []string{today + fileOf("3", "9"), today + left, "/flat/" + left, "/closed/" + left} {
		c.files[file] = "x"
	}
	c.refusing(func(_, file string, _ bool) *fault {
		if strings.HasPrefix(file, "/closed") {
			return &fault{exception: "AccessControlException"}
		}
		return nil
	})
	got, err := newSink(t, c.policy()).Finished(t.Context(), name, time.Now(), []string{"/closed", "/old/{date}", "/flat", c.policy().WebHDFS.Path})
	if diff := cmp.Diff([]drain.Range{{First: 3, Last: 9}}, got); err != nil || diff != "" {
		t.Errorf("ranges, %v (-want +got):\n%s", err, diff)
	}
	if diff := cmp.Diff([]string{"/closed/" + left, today + fileOf("3", "9")}, c.names()); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

// The NameNode that stands by, or is not there, is passed over.
func TestFailover(t *testing.T) {
	c, standby := newCluster(t), newCluster(t)
	standby.refusing(func(string, string, bool) *fault { return &fault{exception: "StandbyException"} })
	p := c.policy()
	p.WebHDFS.HTTP.URLs = []*url.URL{at(t, "http://127.0.0.1:1"), at(t, standby.name.URL), at(t, c.name.URL)}
	s := newSink(t, p)
	done, settled := outcomes()
	s.Collect(name, batch(0, noon, "a"))(t.Context(), settled)
	before := standby.did("CREATE")
	s.Finish(name)
	if got := wait(t, done); got.Class != drain.Success {
		t.Errorf("settled with %+v", got)
	}
	if before != 1 || standby.did("RENAME") != 0 {
		t.Errorf("the one that stands by was asked %d and %d times, want once", before, standby.did("RENAME"))
	}
}

func at(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// A NameNode does not decide where messages go.
func TestDataHosts(t *testing.T) {
	c := newCluster(t)
	c.moved = "http://evil.example:80"
	s := newSink(t, c.policy())
	done, settled := outcomes()
	s.Collect(name, batch(0, noon, "a"))(t.Context(), settled)
	if got := wait(t, done); got.Class == drain.Success || got.RetryAfter != time.Minute || !strings.Contains(got.Error, "evil.example, which data_hosts does not list") {
		t.Errorf("settled with %+v", got)
	}
	for listed, hosts := range map[string]map[string]bool{
		"dn1.internal": {"dn1.internal": true, "DN1.internal": true, "dn2.internal": false, "127.0.0.1": true},
		"*.internal":   {"dn1.internal": true, "a.b.internal": true, "internal": false, ".internal": false, "dn1.internal.evil": false},
		"10.0.0.0/8":   {"10.1.2.3": true, "11.1.2.3": false, "10.1.2.3.evil": false},
		"fd00::1":      {"fd00::1": true},
	} {
		p := *c.policy().WebHDFS
		p.DataHosts = []string{listed}
		for host, want := range hosts {
			if got := p.MayWriteTo(host); got != want {
				t.Errorf("data_hosts [%s]: %s is %v, want %v", listed, host, got, want)
			}
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for what, p := range map[string]policies.Sink{
		"another kind": {Name: "x"},
		"no urls":      {WebHDFS: &policies.WebHDFSSink{}},
		"no pair":      {WebHDFS: &policies.WebHDFSSink{HTTP: policies.HTTPSink{URLs: []*url.URL{at(t, "https://nn")}, TLS: &policies.TLS{Certificate: []byte("no")}}}},
	} {
		if _, err := webhdfs.New(p); err == nil {
			t.Errorf("%s: no error", what)
		}
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}
