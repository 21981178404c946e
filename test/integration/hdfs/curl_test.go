package hdfs_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"forebay/test/integration/parts"
)

// piece is what curl adds at once, as the sink does.
const piece = 4 << 20

// BenchmarkBesideCurl writes the same bytes with curl and with a drain, in turns, and
// tells how much of curl's speed the drain has. Run it with make bench-hdfs.
func BenchmarkBesideCurl(b *testing.B) {
	h := parts.StartHDFS(b, nil)
	f := parts.StartForebay(b, policy(h, "roll: { max_bytes: 64GiB, max_age: 24h }"), parts.ForebayOptions{})
	const lines = 600_000
	text := textOf(lines)
	var curl, drain time.Duration
	sent := 0
	for b.Loop() {
		curl += withCurl(b, h, text, fmt.Sprintf("/curl/%d", sent))
		mustRun(b, f, "drains", "pause", "logs-to-archive", "--reason", "bench")
		postLines(b, f, 0, lines)
		sent += lines
		began := time.Now()
		mustRun(b, f, "drains", "resume", "logs-to-archive")
		parts.Until(b, 5*time.Minute, "all is written", func() bool {
			w := f.Why("logs-to-archive")
			written := f.Drain("logs-to-archive").Delivered
			for _, g := range w.Gathering {
				written += g.Messages
			}
			return written == int64(sent)
		})
		drain += time.Since(began)
	}
	all := float64(len(text)) / (1 << 20) * float64(b.N)
	b.ReportMetric(all/curl.Seconds(), "curl-MiB/s")
	b.ReportMetric(all/drain.Seconds(), "drain-MiB/s")
	b.ReportMetric(curl.Seconds()/drain.Seconds(), "of-curl")
}

func textOf(lines int) []byte {
	var text bytes.Buffer
	for n := range lines {
		text.WriteString(line(n))
		text.WriteByte('\n')
	}
	return text.Bytes()
}

func mustRun(b *testing.B, f *parts.Forebay, args ...string) {
	b.Helper()
	if out, code := f.Command(args...); code != 0 {
		b.Fatalf("forebay %v = %d: %s", args, code, out)
	}
}

// withCurl writes a file piece by piece and returns how long that took.
func withCurl(b *testing.B, h *parts.HDFS, text []byte, to string) time.Duration {
	b.Helper()
	var pieces []string
	for from := 0; from < len(text); from += piece {
		at := filepath.Join(b.TempDir(), "piece")
		if err := os.WriteFile(at, text[from:min(from+piece, len(text))], 0o600); err != nil {
			b.Fatal(err)
		}
		pieces = append(pieces, at)
	}
	curl := parts.Program(b, "curl", "curl")
	began := time.Now()
	for i, at := range pieces {
		method, op := "POST", "APPEND"
		if i == 0 {
			method, op = "PUT", "CREATE"
		}
		url := fmt.Sprintf("%s/webhdfs/v1%s?op=%s&user.name=%s", h.URL, to, op, parts.HDFSUser)
		if out, err := exec.Command(curl, "-sSfL", "-X", method, "-T", at, url).CombinedOutput(); err != nil {
			b.Fatalf("curl %s: %v: %s", url, err, out)
		}
	}
	return time.Since(began)
}
