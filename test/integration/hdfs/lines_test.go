package hdfs_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"net/http"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"forebay/test/integration/parts"
)

// line is the nth of a log, as an access log has them.
func line(n int) string {
	h := uint64(n) * 0x9E3779B97F4A7C15
	return fmt.Sprintf(`2026-11-11T00:00:00Z 10.%d.%d.%d "POST /v1/orders/%016x" %d %dms line=%08d`,
		h>>56, h>>48&255, h>>40&255, h, 200+h>>32&1, h>>33&511, n)
}

// postLines sends the lines from first on, one batch after the other: their offsets are
// their numbers.
func postLines(t testing.TB, f *parts.Forebay, first, n int) {
	t.Helper()
	const batch = 10_000
	for from := first; from < first+n; from += batch {
		var text bytes.Buffer
		for i := from; i < min(from+batch, first+n); i++ {
			text.WriteString(line(i))
			text.WriteByte('\n')
		}
		status, answer, err := f.Post("/v1/lines", "text/plain", text.Bytes())
		if err != nil || status != http.StatusAccepted {
			t.Fatalf("POST = %d, %v: %s", status, err, answer)
		}
	}
}

// A logFile is a finished file, with the range that its name tells.
type logFile struct {
	path        string
	first, last int
}

var namedGzip = regexp.MustCompile(`^forebay-logs-to-archive-[0-9a-f]{8}-([0-9]{20})-([0-9]{20})\.log\.gz$`)

// finished are the files that have their names, by range, and how many have not.
func finished(t *testing.T, h *parts.HDFS) (files []logFile, others []string) {
	t.Helper()
	for _, at := range h.Files("/warehouse") {
		m := namedGzip.FindStringSubmatch(path.Base(at))
		if m == nil {
			others = append(others, at)
			continue
		}
		first, err1 := strconv.Atoi(m[1])
		last, err2 := strconv.Atoi(m[2])
		if err1 != nil || err2 != nil {
			t.Fatalf("%s: %v, %v", at, err1, err2)
		}
		files = append(files, logFile{at, first, last})
	}
	slices.SortFunc(files, func(a, b logFile) int {
		if a.first != b.first {
			return a.first - b.first
		}
		return b.last - a.last
	})
	return files, others
}

// wantUnion checks that every file is whole, and that all of them, but for ranges that
// lie within others, hold each of n lines once. It returns how many such ranges there are.
func wantUnion(t *testing.T, h *parts.HDFS, n int) (repeated int) {
	t.Helper()
	files, others := finished(t, h)
	if len(others) > 0 {
		t.Errorf("files without names of finished ones: %q", others)
	}
	next := 0
	for _, f := range files {
		wantWhole(t, h, f)
		switch {
		case f.last < next:
			repeated++
		case f.first != next:
			t.Errorf("%s begins where %d is the next line", f.path, next)
			fallthrough
		default:
			next = f.last + 1
		}
	}
	if next != n {
		t.Errorf("the files end with line %d, want %d lines", next-1, n)
	}
	return repeated
}

// wantWhole checks that a file holds the lines of its range, each whole and in order.
func wantWhole(t *testing.T, h *parts.HDFS, f logFile) {
	t.Helper()
	r, err := gzip.NewReader(bytes.NewReader(h.Read(f.path)))
	if err != nil {
		t.Errorf("%s: %v", f.path, err)
		return
	}
	lines, n := bufio.NewScanner(r), f.first
	for ; lines.Scan(); n++ {
		if got := lines.Text(); got != line(n) {
			t.Errorf("%s: line %d is %q, want %q", f.path, n, got, line(n))
			return
		}
	}
	if lines.Err() != nil || n != f.last+1 {
		t.Errorf("%s ends after line %d: %v", f.path, n-1, lines.Err())
	}
}

// nextWindow is a schedule's window that opens with the next minute of the clock and
// lasts for hours, in a time zone in which it is about noon.
func nextWindow(now time.Time) (opens time.Time, interval string) {
	opens = now.UTC().Add(5 * time.Second).Truncate(time.Minute).Add(time.Minute)
	zone := opens.Hour() - 12 // east of Greenwich is negative in these names
	at := opens.Add(-time.Duration(zone) * time.Hour)
	return opens, fmt.Sprintf(`{ times: [{ start_time: %q, end_time: "23:00" }], location: %q }`, at.Format("15:04"), strings.Replace(fmt.Sprintf("Etc/GMT%+d", zone), "+0", "", 1))
}
