package parts_test

import (
	"slices"
	"testing"

	"forebay/test/integration/parts"
)

// TestHDFS: a file is there after both nodes were killed.
func TestHDFS(t *testing.T) {
	h := parts.StartHDFS(t, nil)
	h.Create("/logs/a/one", []byte("a line\n"))
	h.NameNode.Kill()
	h.DataNode.Kill()
	h.NameNode.Restart()
	h.DataNode.Restart()
	if got, want := h.Files("/"), []string{"/logs/a/one"}; !slices.Equal(got, want) {
		t.Errorf("files = %v, want %v", got, want)
	}
	if got := string(h.Read("/logs/a/one")); got != "a line\n" {
		t.Errorf("read %q, want what was written", got)
	}
	if got := h.Files("/none"); got != nil {
		t.Errorf("files of no folder = %v", got)
	}
}
