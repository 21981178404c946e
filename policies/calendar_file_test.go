package policies

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// What a calendar file says is part of the policy: of its hash, and of what is
// watched, while it has a mistake too.
func TestCalendarFile(t *testing.T) {
	dir := t.TempDir()
	calendar, policy := filepath.Join(dir, "cal", "cn.txt"), filepath.Join(dir, "p.yaml")
	write(t, dir, "p.yaml", "version: 1\ntime_intervals: [{ name: x, intervals: [{ calendar_file: cal/cn.txt, location: Asia/Shanghai }] }]\n")
	paths := []string{filepath.Join(dir, "*.yaml")}
	watched := func() {
		t.Helper()
		names, err := Files(paths)
		if diff := cmp.Diff([]string{calendar, policy}, names); err != nil || diff != "" {
			t.Errorf("Files: error %v, names (-want +got):\n%s", err, diff)
		}
	}
	var mistakes Errors
	if _, err := Load(paths); !errors.As(err, &mistakes) || mistakes[0].File != policy {
		t.Errorf("without the calendar Load returned %v, want a mistake in %s", err, policy)
	}
	watched()
	if err := os.Mkdir(filepath.Dir(calendar), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "cal/cn.txt", "2027-10-01\n2027-13-01\n")
	if _, err := Load(paths); !errors.As(err, &mistakes) || mistakes[0].File != calendar || mistakes[0].Line != 2 {
		t.Errorf("with a bad date Load returned %v, want a mistake at %s:2", err, calendar)
	}
	watched()
	hashes := make(map[string]bool)
	for _, days := range []string{"2027-10-01", "2027-10-01:2027-10-02"} {
		write(t, dir, "cal/cn.txt", days)
		set, err := Load(paths)
		if err != nil {
			t.Fatal(err)
		}
		hashes[set.Hash] = true
		x := set.Interval("x")
		first := time.Date(2027, 9, 30, 16, 0, 0, 0, time.UTC)
		if x.Active(first.Add(-time.Second)) || !x.Active(first) || x.Active(first.Add(36*time.Hour)) != strings.Contains(days, ":") {
			t.Errorf("%s is not what the interval is active on", days)
		}
	}
	if len(hashes) != 2 {
		t.Error("a changed calendar leaves the hash as it was")
	}
}

func TestCalendarFileBounds(t *testing.T) {
	line := "2027-10-01\n"
	many := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "{ calendar_file: %d.txt }, ", i)
		}
		return b.String()
	}
	tests := []struct {
		name, specs, data, want string
	}{
		{"size", many(1), strings.Repeat("#", maxFileBytes+1), `calendar file "0.txt" is over 1 MiB`},
		{"not text", many(1), "\xff", `calendar file "0.txt" is not UTF-8 text`},
		{"dates", many(1), strings.Repeat(line, maxCalendarLines+1), `calendar file "0.txt" holds more than 20000 dates and ranges`},
		{"files", many(60) + "] }, { name: y, intervals: [ " + strings.ReplaceAll(many(60), ": ", ": y"), line, "the policy names more than 100 calendar files"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			policy := "version: 1\ntime_intervals: [{ name: x, intervals: [" + tt.specs + "] }]"
			_, found, _ := parseWith([]File{{"p.yaml", []byte(policy)}}, &outside{read: func(string) ([]byte, error) { return []byte(tt.data), nil }})
			mistakes := found.errors()
			if len(mistakes) == 0 || mistakes[0].Message != tt.want {
				t.Errorf("mistakes = %.300v, want the first to be %q", mistakes, tt.want)
			}
		})
	}
}
