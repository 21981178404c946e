package parts_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"forebay/test/integration/parts"
)

// TestFetch: what is missing is said with how to install it, and nothing is left half made.
func TestFetch(t *testing.T) {
	top, path := t.TempDir(), t.TempDir()
	here := filepath.Join(top, "test", "integration", "parts")
	if err := os.CopyFS(here, os.DirFS(".")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"dirname", "cat", "sha256sum", "mkdir", "rm"} {
		if err := os.Symlink(parts.Program(t, name, "coreutils"), filepath.Join(path, name)); err != nil {
			t.Fatal(err)
		}
	}
	for part, want := range map[string]string{
		"kafka":         "javac is missing: apt-get install default-jdk-headless",
		"telegraf":      "go is missing: apt-get install golang",
		"rsyslog":       "apt-get is missing: apt-get install apt",
		"opensearch-py": "python3 is missing: apt-get install python3",
		"none":          "no part none; there are: elasticsearch hdfs kafka",
	} {
		cmd := exec.Command("/bin/sh", filepath.Join(here, "fetch.sh"), part)
		cmd.Env = []string{"PATH=" + path}
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), "make parts: "+want) {
			t.Errorf("fetch.sh %s = %v: %s, want a failure with %q", part, err, out, want)
		}
	}
	left, err := filepath.Glob(filepath.Join(top, ".parts", "*"))
	if err != nil || len(left) != 0 {
		t.Errorf("%q is left, want nothing", left)
	}
}

// TestPrograms: those that Debian installs are there and run.
func TestPrograms(t *testing.T) {
	for _, p := range []struct{ name, debian, arg string }{
		{"promtool", "prometheus", "--version"},
		{"redis-server", "redis-server", "--version"},
		{"nginx", "nginx-light", "-v"},
		{"kcat", "kcat", "-V"},
	} {
		if out, err := exec.Command(parts.Program(t, p.name, p.debian), p.arg).CombinedOutput(); err != nil {
			t.Errorf("%s %s = %v: %s", p.name, p.arg, err, out)
		}
	}
}
