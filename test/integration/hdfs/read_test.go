package hdfs_test

import (
	"bytes"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"forebay/test/integration/parts"
)

// What is compressed is read by Hadoop and by the tools of its kind, although a file is
// made of many pieces.
func TestCompressedIsRead(t *testing.T) {
	h := parts.StartHDFS(t, nil)
	keys := func(kind string) string { return fmt.Sprintf("compression: %s, roll: { max_age: 10s }", kind) }
	f := parts.StartForebay(t, policy(h, keys("gzip")), parts.ForebayOptions{})
	var want strings.Builder
	for i := range 25_000 {
		want.WriteString(line(i) + "\n")
	}
	for kind, read := range map[string]func(file string) string{
		"gzip": func(file string) string { return h.Shell("-text", file) },
		"zstd": func(file string) string {
			cmd := exec.Command(parts.Program(t, "zstd", "zstd"), "-dc")
			cmd.Stdin = bytes.NewReader(h.Read(file))
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("zstd -dc: %v", err)
			}
			return string(out)
		},
	} {
		before := h.Files("/warehouse")
		f.Reload(policy(h, keys(kind)))
		postLines(t, f, 0, 25_000)
		f.Settle("logs-to-archive", 2*time.Minute)
		got := ""
		for _, file := range h.Files("/warehouse")[len(before):] {
			got += read(file)
		}
		if got != want.String() {
			t.Errorf("%s: %d bytes are read, want %d", kind, len(got), want.Len())
		}
	}
}

// What somebody has to mend keeps the drain waiting, says so, and loses nothing.
func TestDenied(t *testing.T) {
	h := parts.StartHDFS(t, nil)
	h.Create("/warehouse/owner", []byte("x"))
	f := parts.StartForebay(t, strings.Replace(policy(h, "roll: { max_age: 1s }"), "user: "+parts.HDFSUser, "user: nobody", 1), parts.ForebayOptions{})
	waits := func(reason string) func() bool {
		return func() bool {
			w := f.Why("logs-to-archive")
			return len(w.Constraints) > 0 && strings.Contains(fmt.Sprint(w.Constraints), reason)
		}
	}
	postLines(t, f, 0, 1000)
	parts.Until(t, time.Minute, "the reason is told", waits("AccessControlException: Permission denied: user=nobody"))
	h.SpaceQuota("/warehouse", 1)
	f.Reload(policy(h, "roll: { max_age: 1s }"))
	f.Stop()
	f.Restart() // and not after a minute
	parts.Until(t, time.Minute, "the reason is told", waits("DSQuotaExceededException"))
	h.SpaceQuota("/warehouse", 1<<40)
	if a := f.Settle("logs-to-archive", 3*time.Minute); a.Delivered != 1000 {
		t.Errorf("account = %+v, want 1000 delivered", a)
	}
}
