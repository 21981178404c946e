package hdfs_test

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"forebay/test/integration/parts"
)

// nightLines is how long the day's log is.
func nightLines(t *testing.T) int {
	t.Helper()
	text, ok := os.LookupEnv("FOREBAY_HDFS_LINES")
	if !ok {
		return 400_000
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 100_000 {
		t.Fatalf("FOREBAY_HDFS_LINES = %q, want a number from 100000", text)
	}
	return n
}

// nightPolicy drains a log of n lines to files in a window, in about a minute, and
// meanwhile to a search node at a rate of its own.
func nightPolicy(h *parts.HDFS, s *parts.Search, interval string, n int, live string) string {
	return fmt.Sprintf(`version: 1
time_intervals:
  - { name: night, intervals: [%s] }
streams:
  - { name: logs, max_bytes: 20GiB }
sinks:
  - name: archive
    webhdfs: { urls: [%q], user: %s, path: "/warehouse/logs/dt={date}", roll: { max_bytes: %d, max_age: 20s }, compression: gzip, timeout: { total: 10s } }
    budget: { bytes: %d/s }
    breaker: { failure_ratio: 1, min_requests: 20, window: 5s, open_for: 500ms }
    slow_start: 0
  - name: search
    elasticsearch: { urls: [%q], index: logs }
    budget: { rate: %s, concurrency: { max: 2 } }
    slow_start: 0
drains:
  - { name: logs-to-archive, stream: logs, sink: archive, schedule: { base: 0, entries: [{ name: at night, during: [night], rate: unlimited }] } }
  - { name: logs-to-search, stream: logs, sink: search }
routes:
  - { name: lines, match: { methods: [POST], path: /v1/lines }, mode: buffer, stream: logs, split: lines, max_body: 16MiB }
`, interval, h.URL, parts.HDFSUser, max(1<<20, n*2), n*len(line(0))/45, s.URL, live)
}

// A night is one run of the scenario.
type night struct {
	*testing.T
	h     *parts.HDFS
	f     *parts.Forebay
	paces map[string]int // of the live drain, lines a second, by what went on
	peak  int            // KiB that the program had resident, at most
}

// killProgram kills the program, and starts it again.
func (n *night) killProgram() {
	n.Helper()
	n.look()
	n.f.Kill()
	n.f.Restart()
}

// look takes note of the program's memory since it was started, where the system tells.
func (n *night) look() {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.f.Pid()))
	if err != nil {
		return
	}
	for line := range strings.Lines(string(status)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "VmHWM:" {
			kib, _ := strconv.Atoi(f[1])
			n.peak = max(n.peak, kib)
		}
	}
}

// pace measures the live drain for some seconds.
func (n *night) pace(what string) {
	n.Helper()
	from, began := n.f.Drain("logs-to-search").Delivered, time.Now()
	<-time.After(8 * time.Second) // what is measured is a rate
	n.Logf("%s", what)
	n.paces[what] = int(float64(n.f.Drain("logs-to-search").Delivered-from) / time.Since(began).Seconds())
}

// gathers waits until a file grows.
func (n *night) gathers() {
	n.Helper()
	parts.Until(n, 3*time.Minute, "a file is written", func() bool {
		w := n.f.Why("logs-to-archive")
		return len(w.Gathering) > 0 && w.Gathering[0].Bytes > 0
	})
}

// killAmidAnAppend kills the DataNode while it writes what was sent to it.
func (n *night) killAmidAnAppend() {
	n.Helper()
	n.gathers()
	parts.Until(n, 3*time.Minute, "the DataNode is amid an append", func() bool {
		n.h.DataNode.Pause()
		if n.h.Writing() {
			return true
		}
		n.h.DataNode.Resume()
		return false
	})
	n.h.DataNode.Kill()
}

// killAtAName kills the program when one more file has got its name.
func (n *night) killAtAName() {
	n.Helper()
	before, _ := finished(n.T, n.h)
	parts.Until(n, 3*time.Minute, "one more file has its name", func() bool {
		now, _ := finished(n.T, n.h)
		return len(now) > len(before)
	})
	n.killProgram()
}

// TestNight: a night's window drains a day's log to files while a search node follows at
// its own pace. A DataNode that is killed amid an append, a NameNode that is down for a
// while and a program that is killed three times leave whole files, each line in one, and
// the pace of the other drain as it was.
func TestNight(t *testing.T) {
	lines := nightLines(t)
	rate := min(lines/200, 2000) // what a small machine does beside all else
	h, s := parts.StartHDFS(t, nil), parts.StartOpenSearch(t, parts.SearchOptions{})
	s.CreateIndex("logs", 1, "")
	opens, interval := nextWindow(time.Now().Add(time.Duration(lines) * 10 * time.Microsecond))
	f := parts.StartForebay(t, nightPolicy(h, s, interval, lines, fmt.Sprintf("%d/s", rate)), parts.ForebayOptions{})
	n := &night{t, h, f, map[string]int{}, 0}
	postLines(t, f, 0, lines)
	if now := time.Now(); now.Before(opens) {
		if files := h.Files("/warehouse"); len(files) > 0 && time.Now().Before(opens) {
			t.Errorf("files before the window opens: %q", files)
		}
		n.gathersFrom(opens)
	}
	began := time.Now()

	n.gathers()
	n.pace("nothing")
	n.killProgram()
	n.killAmidAnAppend()
	n.pace("a DataNode that is down")
	h.DataNode.Restart()
	n.killAtAName()
	n.gathers()
	h.NameNode.Kill()
	n.pace("a NameNode that is down")
	n.killProgram()
	h.NameNode.Restart()
	n.pace("a NameNode that is back")

	account := f.Settle("logs-to-archive", 10*time.Minute)
	t.Logf("%d lines in files %.0f s after the window opened; live drain at %d/s: %v", lines, time.Since(began).Seconds(), rate, n.paces)
	if account.Delivered != int64(lines) {
		t.Errorf("delivered %d of %d", account.Delivered, lines)
	}
	parts.Until(t, 3*time.Minute, "no .tmp is left", func() bool {
		_, others := finished(t, h)
		return len(others) == 0
	})
	n.look()
	t.Logf("%d ranges lie within others; the program had at most %d MiB resident", wantUnion(t, h, lines), n.peak>>10)
	for what, pace := range n.paces {
		if quiet := n.paces["nothing"]; 2*pace < quiet || 10*pace > 12*rate {
			t.Errorf("the live drain's pace beside %s is %d/s, want about %d/s", what, pace, quiet)
		}
	}
	if lines <= 1_000_000 {
		wantDocuments(t, f, s, nightPolicy(h, s, interval, lines, "unlimited"), lines)
	}
}

// gathersFrom waits for the window, and checks that nothing is written before it opens.
func (n *night) gathersFrom(opens time.Time) {
	n.Helper()
	parts.Until(n, 3*time.Minute, "the window opens", func() bool {
		w := n.f.Why("logs-to-archive")
		if len(w.Gathering) > 0 && time.Now().Before(opens) {
			n.Fatalf("%v before the window opens: %+v", time.Until(opens), w)
		}
		return len(w.Gathering) > 0
	})
}

// wantDocuments lets the live drain off its rate, and checks that the search node has
// each line once.
func wantDocuments(t *testing.T, f *parts.Forebay, s *parts.Search, policy string, lines int) {
	t.Helper()
	f.Reload(policy)
	f.Settle("logs-to-search", 10*time.Minute)
	s.Call("POST", "/logs/_refresh", "")
	var got struct {
		Count int `json:"count"`
	}
	if err := json.Unmarshal(s.Call("GET", "/logs/_count", ""), &got); err != nil || got.Count != lines {
		t.Errorf("%d documents, %v, want %d", got.Count, err, lines)
	}
}
