package hdfs_test

import (
	"strings"
	"testing"
	"time"

	"forebay/test/integration/parts"
)

// TestFailover: the active one of two NameNodes is killed amid an append, and the other
// takes its place: the drain goes on with that one, and each line is in one whole file.
func TestFailover(t *testing.T) {
	h := parts.StartHDFSPair(t)
	text := policy(h, "roll: { max_bytes: 1MiB, max_age: 5s }, timeout: { total: 10s }")
	f := parts.StartForebay(t, strings.Replace(text, `["`+h.URL+`"]`, `["`+strings.Join(h.URLs, `", "`)+`"]`, 1), parts.ForebayOptions{})
	sent := 0
	more := func(n int) { post(t, f, sent, n); sent += n }
	named := func() (n int) {
		for _, file := range h.Files("/warehouse") {
			if strings.HasSuffix(file, ".log") {
				n++
			}
		}
		return n
	}

	more(50_000)
	parts.Until(t, time.Minute, "a file has its name", func() bool { return named() > 0 })
	killAmidAnAppend(t, h, func() { more(5_000) })
	more(20_000)
	h.Failover()
	before := named()
	more(20_000)
	parts.Until(t, 3*time.Minute, "the other NameNode gives a file its name", func() bool { return named() > before })

	h.Standby.Restart() // it stands by, and is the first that a new start asks
	f.Kill()
	f.Restart()
	more(20_000)
	wantAll(t, h, f, sent)
}

// killAmidAnAppend kills the NameNode while the DataNode writes what was sent to it.
func killAmidAnAppend(t *testing.T, h *parts.HDFS, more func()) {
	t.Helper()
	parts.Until(t, 3*time.Minute, "the DataNode is amid an append", func() bool {
		more()
		h.DataNode.Pause()
		if h.Writing() {
			return true
		}
		h.DataNode.Resume()
		return false
	})
	h.NameNode.Kill()
	h.DataNode.Resume()
}
