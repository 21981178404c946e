package buffer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"testing/synctest"

	"forebay/buffer"

	"github.com/google/go-cmp/cmp"
)

// from appends one message of a source that is at n then.
func from(t testing.TB, e *buffer.Engine, n uint64, size int) error {
	t.Helper()
	_, err := e.AppendFrom(t.Context(), "orders", noon, []buffer.Message{noise(n, size)}, "kafka", bookmark(n))
	return err
}

func bookmark(n uint64) []buffer.Bookmark {
	return []buffer.Bookmark{{Part: "orders/0", At: fmt.Sprint(n)}}
}

func wantBookmark(t testing.TB, e *buffer.Engine, n uint64) {
	t.Helper()
	got, err := e.Bookmarks(context.Background(), "kafka")
	if diff := cmp.Diff(bookmark(n), got); err != nil || diff != "" {
		t.Errorf("bookmarks, %v (-want +got):\n%s", err, diff)
	}
}

// TestBookmarkFullDisk: a source is as far as what was stored of it, to the message.
func TestBookmarkFullDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	e, err := buffer.Open(t.Context(), buffer.Config{Dir: dir, SegmentBytes: mib, MaxBytes: 14 * mib})
	if err != nil {
		t.Fatal(err)
	}
	configure(t, e, "mail")
	n := uint64(0)
	for ; err == nil && n < 10_000; n++ {
		err = from(t, e, n, 60_000)
	}
	if n--; !errors.Is(err, buffer.ErrDiskFull) {
		t.Fatalf("append %d on a full disk = %v, want ErrDiskFull", n, err)
	}
	wantBookmark(t, e, n-1)
	e = open(t, crashed(t, e, dir))
	configure(t, e, "mail")
	wantBookmark(t, e, n-1)
	if diff := cmp.Diff(upTo(n), drainAll(t, e, "mail")); diff != "" {
		t.Errorf("delivered (-want +got):\n%s", diff)
	}
}

// TestBookmarkStalled: an append whose outcome is open is decided when bookmarks are read,
// and what was refused behind it leaves none.
func TestBookmarkStalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := open(t, t.TempDir())
		configure(t, e, "mail")
		began, letGo := stall(e)
		inside, behind := make(chan error, 1), make(chan error, 1)
		go func() { inside <- from(t, e, 0, 100) }()
		<-began
		go func() { behind <- from(t, e, 1, 100) }()
		if err := <-inside; !errors.Is(err, buffer.ErrUndecided) {
			t.Errorf("the append that is in the commit = %v, want ErrUndecided", err)
		}
		if err := <-behind; !errors.Is(err, buffer.ErrStalled) {
			t.Errorf("the append behind it = %v, want ErrStalled", err)
		}
		read := make(chan struct{})
		go func() {
			wantBookmark(t, e, 0)
			close(read)
		}()
		synctest.Wait()
		select {
		case <-read:
			t.Error("bookmarks were read before the commit was decided")
		default:
		}
		letGo()
		<-read
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestBookmarkBackup: a backup has the bookmarks of its messages, and verify reads them.
func TestBookmarkBackup(t *testing.T) {
	e := open(t, filepath.Join(t.TempDir(), "data"))
	configure(t, e, "mail")
	for n := range uint64(40) {
		if err := from(t, e, n, 60_000); err != nil { // through segments
			t.Fatal(err)
		}
	}
	b, err := e.Backup(t.Context(), "test", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := from(t, e, 40, 100); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := b.Write(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	b.Close()
	e.Halt()
	dir := restored(t, out.Bytes())
	wantSound(t, dir)
	r := open(t, dir)
	configure(t, r, "mail")
	wantBookmark(t, r, 39)
	if diff := cmp.Diff(upTo(40), drainAll(t, r, "mail")); diff != "" {
		t.Errorf("delivered by the restored directory (-want +got):\n%s", diff)
	}
}

// TestBookmarkFailedCommit: a commit that failed has set neither, or both.
func TestBookmarkFailedCommit(t *testing.T) {
	for name, stored := range map[string]bool{"not stored": false, "stored after all": true} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			e := open(t, dir)
			configure(t, e, "mail")
			if err := from(t, e, 0, 100); err != nil {
				t.Fatal(err)
			}
			e.FailCommits(stored)
			if err := from(t, e, 1, 100); !errors.Is(err, buffer.ErrBroken) {
				t.Fatalf("append = %v, want ErrBroken", err)
			}
			e = open(t, crashed(t, e, dir))
			configure(t, e, "mail")
			want := uint64(0)
			if stored {
				want = 1
			}
			wantBookmark(t, e, want)
			if diff := cmp.Diff(upTo(want+1), drainAll(t, e, "mail")); diff != "" {
				t.Errorf("delivered after the restart (-want +got):\n%s", diff)
			}
		})
	}
}
