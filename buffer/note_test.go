package buffer_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Notes outlive a crash, a roll of the segment and sources that go.
func TestNotes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	e := open(t, dir)
	configure(t, e, "mail")
	note := func(texts map[string]string) {
		t.Helper()
		if err := e.Note(t.Context(), texts); err != nil {
			t.Fatal(err)
		}
	}
	note(map[string]string{"rest mail": "until noon", "rest sms": "until one"})
	if err := e.KeepBookmarks(t.Context(), []string{"kafka"}); err != nil {
		t.Fatal(err)
	}
	for n := range uint64(40) { // more than a segment holds
		if err := from(t, e, n, 60_000); err != nil {
			t.Fatal(err)
		}
	}
	note(map[string]string{"rest sms": "", "rest push": "until two"})
	e = open(t, crashed(t, e, dir))
	want := map[string]string{"rest mail": "until noon", "rest push": "until two"}
	if diff := cmp.Diff(want, e.Notes()); diff != "" {
		t.Errorf("notes (-want +got):\n%s", diff)
	}
	for _, bad := range []map[string]string{{"": "x"}, {"x": strings.Repeat("x", 2000)}} {
		if e.Note(t.Context(), bad) == nil {
			t.Errorf("%v was taken", bad)
		}
	}
}
