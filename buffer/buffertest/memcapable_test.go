package buffertest

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"forebay/buffer"
)

// Mem has every capability, so that no section is left out on it.
var (
	_ Engine             = (*Mem)(nil)
	_ buffer.Receipts    = (*Mem)(nil)
	_ buffer.Inspector   = (*Mem)(nil)
	_ buffer.Once        = (*Mem)(nil)
	_ buffer.Expirer     = (*Mem)(nil)
	_ buffer.DeadLetters = (*Mem)(nil)
	_ buffer.Searcher    = (*Mem)(nil)
	_ buffer.Remover     = (*Mem)(nil)
	_ buffer.Live        = (*Mem)(nil)
	_ buffer.Bookmarks   = (*Mem)(nil)
)

func TestMemBlocked(t *testing.T) {
	m := NewMem()
	m.SetMaxParkedKeys(3)
	f := newFixture(t, Subject{Buffer: m}, oneDrain())
	blocked := func(step string, want bool) {
		t.Helper()
		if got := f.drainStats("mail"); got.Blocked != want {
			t.Fatalf("after %s: blocked is %v with %d parked keys, want %v", step, got.Blocked, got.ParkedKeys, want)
		}
	}
	f.fillKeys("orders", "a", "b", "c", "d", "e", "", "a", "d")
	f.wantTake("mail", 9, 0, 1, 2, 5) // a message without a key parks none
	blocked("a take of three keys", true)
	due := f.release("mail", 0, time.Minute).Due
	f.fillKeys("orders", "f", "")
	f.wantTake("mail", 9, 9)
	f.ack("mail", 5, 9)

	wake := f.Buffer.Wake("mail")
	pending(wake)
	f.ack("mail", 1)
	if !pending(wake) {
		t.Fatal("Wake(mail) is not signalled when a blocked drain may open another key")
	}
	blocked("an ack", false)
	f.wantTake("mail", 9, 3)
	f.Buffer.Return("mail", 3)
	blocked("a return", false)
	f.wantTake("mail", 9, 3)
	f.now = due
	f.wantTake("mail", 9, 0) // what is parked already is served
	f.ack("mail", 0)
	f.wantTake("mail", 9, 4)
	f.ack("mail", 2, 3, 4)
	f.wantTake("mail", 9, 6, 7, 8)
	f.ack("mail", 6, 7, 8)
	blocked("all was acked", false)
}

func TestMemForgetsKeys(t *testing.T) {
	m := NewMem()
	f := newFixture(t, Subject{Buffer: m}, oneDrain())
	for n := range uint64(3) {
		f.wantOnce("a new key", "orders", onceKey(fmt.Sprint("order ", n), "body"), n, false, small(0))
		f.now = f.now.Add(time.Minute)
	}
	f.now = f.now.Add(onceTTL - 2*time.Minute)
	m.Housekeep(f.now)
	if got := len(m.streams[0].once); got != 1 {
		t.Fatalf("%d records of idempotency keys after two of three are past their ttl, want 1", got)
	}
	f.wantOnce("the one that is left", "orders", onceKey("order 2", "body"), 2, true, small(0))
}

func TestMemDeadBytes(t *testing.T) {
	f := newFixture(t, Subject{Buffer: NewMem()}, []buffer.Stream{{Name: "orders", Drains: []string{"mail", "sms"}, DeadMaxBytes: 100}})
	f.append("orders", buffer.Message{Body: noise(1, 99)}, buffer.Message{Body: noise(2, 1)})
	f.takeBury("mail", 0)
	f.takeBury("sms", 0) // counts once
	f.wantTake("mail", 9, 1)
	f.wantErr("Append below the bound", appendNoise(f, 3), nil)
	f.bury("mail", 1)
	f.wantErr("Append at the bound", appendNoise(f, 4), buffer.ErrDeadFull)
	f.wantReplay(0)
	f.wantErr("Append while it is dead with the other drain", appendNoise(f, 4), buffer.ErrDeadFull)
	f.dropDead("sms", 0)
	f.wantErr("Append after it left the dead", appendNoise(f, 4), nil)
}

func TestMemStartsAtOldest(t *testing.T) {
	f := newFixture(t, Subject{Buffer: NewMem()}, oneDrain())
	f.fill("orders", 3)
	f.ack("mail", offsets(f.takeAll("mail"))...)
	f.configure(fromOldest())
	f.wantTake("sms", 9) // nothing was unfinished: at the end
	f.checkLedger()
}

// A drain that waits for a key whose first message is scheduled sleeps until it
// is due, and the follower comes right after it.
func TestMemOrderInBubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMem(oneDrain()...)
		start := time.Now()
		msgs := []buffer.Message{keyed(0, "a"), keyed(1, "a")}
		if _, _, err := m.AppendOnce(t.Context(), "orders", start, msgs, onceKey("order 1", "body")); err != nil {
			t.Fatalf("AppendOnce: %v", err)
		}
		releaseOnce(t, m, start)
		for want := range uint64(2) {
			ds, _, err := m.Take("mail", time.Now(), 9)
			if err != nil || len(ds) != 1 || ds[0].Offset != want {
				t.Fatalf("Take after %s: offsets %v, %v; want [%d]", time.Since(start), offsets(ds), err, want)
			}
			m.Ack("mail", want, buffer.Result{At: time.Now(), Attempts: 1})
			<-m.Wake("mail")
		}
		if got := time.Since(start); got != time.Hour {
			t.Fatalf("both were delivered after %s, want 1h", got)
		}
	})
}
