package app

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"forebay/drain"
)

// TestGate follows closures on a clock of its own: each ends by itself, on time.
func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, began := newGate(), time.Now()
		var ended []string
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- g.run(ctx, func(c closure) { ended = append(ended, c.Stream+" after "+time.Since(began).String()) })
		}()
		is := func(stream string, want bool) {
			t.Helper()
			if _, closed := g.closed(stream); closed != want {
				t.Errorf("%s after %v: closed %v, want %v", stream, time.Since(began), closed, want)
			}
		}
		is("a", false)
		g.close(closure{Stream: "a", Until: began.Add(time.Hour), Reason: "INC-1"}, closure{Stream: "b", Reason: "INC-2"})
		g.close(closure{Stream: "c", Until: began.Add(90 * time.Second)})
		if reason, closed := g.closed("a"); !closed || reason != "INC-1" {
			t.Errorf("closed = %q, %v, want INC-1", reason, closed)
		}
		<-time.After(time.Hour - time.Nanosecond)
		is("a", true)
		is("c", false)
		<-time.After(time.Nanosecond)
		is("a", false)
		<-time.After(400 * 24 * time.Hour)
		is("b", true)
		if !g.open("b") || g.open("b") {
			t.Error("b can be opened other than once")
		}
		is("b", false)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run = %v, want nil", err)
		}
		if diff := cmp.Diff([]string{"c after 1m30s", "a after 1h0m0s"}, ended); diff != "" {
			t.Errorf("ended (-want +got):\n%s", diff)
		}
	})
}

func TestControlSurvives(t *testing.T) {
	dir, at := t.TempDir(), time.Date(2027, 11, 11, 0, 0, 0, 0, time.UTC)
	k := &keeper{dir: dir, log: slog.New(slog.DiscardHandler), last: control{Version: 1}}
	k.drains([]drain.Hold{{Drain: "d", Kind: drain.Override, Rate: 50, Until: at, Reason: "INC-1"}})
	k.streams([]closure{{Stream: "s", Reason: "INC-2"}})
	got, err := readControl(dir)
	if diff := cmp.Diff(k.last, got); diff != "" || err != nil {
		t.Errorf("what was read (-want +got), %v:\n%s", err, diff)
	}
	if _, err := os.Stat(filepath.Join(dir, controlFile+".new")); err == nil {
		t.Error("the new file was left behind")
	}
}

func TestControlErrors(t *testing.T) {
	tests := map[string]string{
		`{"version":1,`:                 "cannot be read",
		`{"version":1,"drainz":[]}`:     "cannot be read",
		`{"version":2}`:                 "has version 2",
		`{"version":1,"streams":[]}   `: "",
	}
	for text, want := range tests {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, controlFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := readControl(dir)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("readControl of %s = %v, want an error with %q", text, err, want)
		}
	}
	if c, err := readControl(t.TempDir()); err != nil || c.Version != 1 {
		t.Errorf("readControl of an empty folder = %+v, %v", c, err)
	}
}
