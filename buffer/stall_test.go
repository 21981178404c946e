package buffer_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"forebay/buffer"
	"forebay/buffer/segment"
)

// stall makes the next commit wait, once it is durable, until it is let go, and
// tells when it has begun.
func stall(e *buffer.Engine) (began <-chan struct{}, letGo func()) {
	begun, release := make(chan struct{}), make(chan struct{})
	first := true
	e.Hook(func(s *segment.Segment, b []segment.Block) error {
		if err := s.Commit(b); err != nil || !first {
			return err
		}
		first = false
		close(begun)
		<-release
		return nil
	})
	return begun, func() { close(release) }
}

// TestStalledCommit: nobody waits for a commit that takes long, nobody is told that
// he is stored, memory does not grow, and all is as before once it ends.
func TestStalledCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := open(t, t.TempDir())
		configure(t, e, "mail")
		began, letGo := stall(e)
		add := func(n uint64, key byte) <-chan error {
			done := make(chan error, 1)
			go func() {
				key := buffer.OnceKey{Key: [16]byte{key}, TTL: time.Hour}
				_, _, err := e.AppendOnce(t.Context(), "orders", noon, []buffer.Message{noise(n, 100)}, key)
				done <- err
			}()
			return done
		}
		start := time.Now()
		inside := add(0, 1)
		<-began
		behind := add(9, 2)
		if err := <-inside; !errors.Is(err, buffer.ErrUndecided) {
			t.Errorf("the append that is in the commit = %v, want ErrUndecided", err)
		}
		if err := <-behind; !errors.Is(err, buffer.ErrStalled) {
			t.Errorf("the append behind it = %v, want ErrStalled", err)
		}
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("they were answered after %v, want 2 s", took)
		}
		if err := <-add(9, 3); !errors.Is(err, buffer.ErrStalled) {
			t.Errorf("an append during the stall = %v, want ErrStalled", err)
		}
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("the append during the stall took %v, want to be refused at once", took-2*time.Second)
		}
		if n := e.PendingParts(); n != 0 {
			t.Errorf("%d blocks of refused appends wait for the next commit", n)
		}
		if err := <-add(0, 1); !errors.Is(err, buffer.ErrInProgress) {
			t.Errorf("a repeat of what is in the commit = %v, want ErrInProgress", err)
		}
		letGo()
		if err := e.Settled(); err != nil {
			t.Fatal(err)
		}
		for key := range byte(3) { // the first is known, the others are free
			if err := <-add(uint64(key), key+1); err != nil {
				t.Errorf("append %d after the stall: %v", key, err)
			}
		}
		if got := drainAll(t, e, "mail"); len(got) != 3 {
			t.Errorf("delivered %v, want three", got)
		}
		wantBalanced(t, e)
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestStalledThenFailed: whoever was told that his outcome is open may not be
// stored, and what was refused never is.
func TestStalledThenFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := open(t, t.TempDir())
		configure(t, e, "mail")
		e.Hook(func(*segment.Segment, []segment.Block) error {
			<-time.After(5 * time.Second) // virtual
			return errors.New("input/output error")
		})
		_, err := e.Append(t.Context(), "orders", noon, []buffer.Message{noise(0, 100)})
		if !errors.Is(err, buffer.ErrUndecided) {
			t.Errorf("append = %v, want ErrUndecided", err)
		}
		<-e.Failed()
		if _, err := e.Append(t.Context(), "orders", noon, []buffer.Message{noise(0, 100)}); !errors.Is(err, buffer.ErrBroken) {
			t.Errorf("append after the failure = %v, want ErrBroken", err)
		}
		_ = e.LetGo() // it has failed
	})
}
