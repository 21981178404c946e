package app

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"forebay/cmd/forebay/admin"
)

func openTestEvents(t *testing.T, dir string) *eventLog {
	t.Helper()
	l, err := openEvents(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func kinds(t *testing.T, l *eventLog, after int64, from time.Time, limit int) (list []string) {
	t.Helper()
	events, err := l.since(after, from, limit)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		list = append(list, e.Kind)
	}
	return list
}

func TestEventsSurvive(t *testing.T) {
	dir, t0 := t.TempDir(), time.Date(2027, 11, 11, 0, 0, 0, 0, time.UTC)
	l := openTestEvents(t, dir)
	want := admin.Event{Kind: "drain-pause", Object: "d", Actor: "anna", Reason: "INC-1", Detail: "until …"}
	l.add(t0, want)
	l.later(t0.Add(time.Minute), admin.Event{Kind: "breaker-open"})
	if err := l.close(); err != nil {
		t.Fatal(err)
	}
	// What a crash left of a line, and a line that is no event.
	f, err := os.OpenFile(filepath.Join(dir, eventsFile), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("nonsense\n{\"id\":99,\"ki"); err != nil {
		t.Fatal(err)
	}
	f.Close()

	l = openTestEvents(t, dir)
	defer l.close()
	l.add(t0.Add(time.Hour), admin.Event{Kind: "reload"})
	got, err := l.since(0, time.Time{}, 1)
	want.ID, want.At = 1, admin.Time{Time: t0}
	if diff := cmp.Diff([]admin.Event{want}, got); diff != "" || err != nil {
		t.Errorf("the first event (-want +got), %v:\n%s", err, diff)
	}
	tests := []struct {
		name  string
		after int64
		from  time.Time
		limit int
		want  []string
	}{
		{"all", 0, time.Time{}, 10, []string{"drain-pause", "breaker-open", "reload"}},
		{"after an id", 1, time.Time{}, 10, []string{"breaker-open", "reload"}},
		{"from a time", 0, t0.Add(time.Minute), 10, []string{"breaker-open", "reload"}},
		{"so many", 0, time.Time{}, 2, []string{"drain-pause", "breaker-open"}},
		{"none", 3, time.Time{}, 10, nil},
	}
	for _, tt := range tests {
		if diff := cmp.Diff(tt.want, kinds(t, l, tt.after, tt.from, tt.limit)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

func TestEventsAreBounded(t *testing.T) {
	dir := t.TempDir()
	l := openTestEvents(t, dir)
	defer l.close()
	l.max = 1000
	for range 50 {
		l.add(time.Now(), admin.Event{Kind: "reload", Detail: strings.Repeat("x", 3*maxDetail)})
	}
	total := int64(0)
	for _, name := range []string{eventsFile, formerEventsFile} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		total += info.Size()
	}
	if total > 2*(maxDetail+500) {
		t.Errorf("the operator log takes %d bytes", total)
	}
	events, err := l.since(0, time.Time{}, 10)
	if err != nil || len(events) == 0 || events[len(events)-1].ID != 50 {
		t.Errorf("the newest event is not there: %v, %v", events, err)
	}
}

// TestEventsOnAFullDisk has a write fail: it is told in the log, and what comes
// later is kept.
func TestEventsOnAFullDisk(t *testing.T) {
	var said logBook
	l, err := openEvents(t.TempDir(), slog.New(slog.NewTextHandler(&said, nil)))
	if err != nil {
		t.Fatal(err)
	}
	whole := l.file
	l.file, err = os.Open(os.DevNull) // not to be written to
	if err != nil {
		t.Fatal(err)
	}
	l.add(time.Now(), admin.Event{Kind: "drain-pause", Reason: "INC-7"})
	l.file.Close()
	l.file = whole
	l.add(time.Now(), admin.Event{Kind: "reload"})
	if diff := cmp.Diff([]string{"reload"}, kinds(t, l, 0, time.Time{}, 10)); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if !strings.Contains(said.String(), `level=ERROR msg="event is not in the operator log" kind=drain-pause`) {
		t.Errorf("the log does not tell: %s", &said)
	}
	if err := l.close(); err != nil {
		t.Error(err)
	}
}
