// Package hdfs_test runs the webhdfs sink against a real HDFS.
package hdfs_test

import (
	"fmt"
	"net/http"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"forebay/test/integration/parts"
)

// policy is one that gathers logs in files: keys are those of the sink.
func policy(h *parts.HDFS, keys string) string {
	return fmt.Sprintf(`version: 1
sinks:
  - name: archive
    webhdfs: { urls: [%q], user: %s, path: "/warehouse/logs/dt={date}", %s }
    breaker: off
    slow_start: 0
streams:
  - { name: logs }
drains:
  - { name: logs-to-archive, stream: logs, sink: archive }
routes:
  - { name: lines, match: { methods: [POST], path: /v1/lines }, mode: buffer, stream: logs, split: lines, max_body: 16MiB }
`, h.URL, parts.HDFSUser, keys)
}

// post sends numbered lines from first on, in batches of a thousand.
func post(t *testing.T, f *parts.Forebay, first, n int) {
	t.Helper()
	for from := first; from < first+n; from += 1000 {
		var text strings.Builder
		for i := from; i < min(from+1000, first+n); i++ {
			fmt.Fprintf(&text, "line %08d of the log, and some more of it\n", i)
		}
		status, answer, err := f.Post("/v1/lines", "text/plain", []byte(text.String()))
		if err != nil || status != http.StatusAccepted {
			t.Fatalf("POST = %d, %v: %s", status, err, answer)
		}
	}
}

var named = regexp.MustCompile(`^forebay-logs-to-archive-[0-9a-f]{8}-([0-9]{20})-([0-9]{20})\.log$`)

// union reads all files, and returns how often each line is in them: ranges that were
// written twice, as their names tell, count once.
func union(t *testing.T, h *parts.HDFS) map[string]int {
	t.Helper()
	lines, ranges := map[string]int{}, map[string]string{}
	for _, file := range h.Files("/warehouse") {
		m := named.FindStringSubmatch(path.Base(file))
		if m == nil {
			t.Errorf("%s is no finished file", file)
			continue
		}
		for r, other := range ranges {
			first, last, _ := strings.Cut(r, "-")
			if m[1] <= last && m[2] >= first {
				t.Errorf("%s and %s hold some of the same range", file, other)
			}
		}
		ranges[m[1]+"-"+m[2]] = file
		for line := range strings.Lines(string(h.Read(file))) {
			lines[line]++
		}
	}
	return lines
}

func wantLines(t *testing.T, got map[string]int, n int) {
	t.Helper()
	for i := range n {
		line := fmt.Sprintf("line %08d of the log, and some more of it\n", i)
		if got[line] != 1 {
			t.Errorf("%q is there %d times", line, got[line])
		}
		delete(got, line)
	}
	for line := range got {
		t.Errorf("%q is there, and was not sent", line)
	}
}

// TestFiles: what comes while nodes die, the program is killed and the path changes is in
// whole files in the end.
func TestFiles(t *testing.T) {
	h := parts.StartHDFS(t, nil)
	text := policy(h, "roll: { max_bytes: 1MiB, max_age: 5s }")
	f := parts.StartForebay(t, text, parts.ForebayOptions{})
	sent := 0
	more := func(n int) { post(t, f, sent, n); sent += n }

	more(50_000)
	parts.Until(t, time.Minute, "a file has its name", func() bool {
		return slices.ContainsFunc(h.Files("/warehouse"), func(file string) bool { return named.MatchString(path.Base(file)) })
	})
	f.Kill()
	f.Restart()
	more(20_000)
	h.NameNode.Kill()
	more(20_000)
	h.NameNode.Restart()
	more(20_000)
	f.Kill()
	f.Restart()
	more(20_000)
	h.DataNode.Kill()
	more(20_000)
	h.DataNode.Restart()
	f.Kill()
	f.Restart()
	more(10_000)
	f.Reload(strings.Replace(text, "/warehouse/logs/", "/warehouse/other/", 1))
	f.Kill()
	f.Restart()
	more(10_000)
	wantAll(t, h, f, sent)
}

// wantAll settles the drain: every line is there, and no file is half written.
func wantAll(t *testing.T, h *parts.HDFS, f *parts.Forebay, sent int) {
	t.Helper()
	account := f.Settle("logs-to-archive", 5*time.Minute)
	if account.Delivered != int64(sent) {
		t.Errorf("delivered %d of %d", account.Delivered, sent)
	}
	parts.Until(t, time.Minute, "no .tmp is left", func() bool {
		return !slices.ContainsFunc(h.Files("/warehouse"), func(file string) bool { return strings.HasSuffix(file, ".tmp") })
	})
	wantLines(t, union(t, h), sent)
}
