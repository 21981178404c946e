package main

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// A file whose last line has no end is not spoilt, and one that is made is its
// owner's alone.
func TestAppendLine(t *testing.T) {
	for had, want := range map[string]string{"": "b:2\n", "# a": "# a\nb:2\n", "# a\n": "# a\nb:2\n"} {
		path := filepath.Join(t.TempDir(), "keys")
		if had != "" {
			if err := os.WriteFile(path, []byte(had), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := appendLine(path, "b:2"); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		info, _ := os.Stat(path) // it was just read
		if err != nil || string(got) != want || info.Mode().Perm() != 0o600 {
			t.Errorf("%q became %q, %v, mode %v; want %q", had, got, err, info.Mode(), want)
		}
	}
}

func TestMakeKey(t *testing.T) {
	a, err := makeKey("web")
	b, _ := makeKey("web") // the same
	if err != nil || a.Key == b.Key || a.Line == b.Line || !regexp.MustCompile(`^fbk_[\w-]{43}$`).MatchString(a.Key) {
		t.Errorf("two keys are %+v and %+v, %v", a, b, err)
	}
}
