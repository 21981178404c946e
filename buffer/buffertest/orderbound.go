package buffertest

import (
	"fmt"

	"forebay/buffer"
)

// orderBound opens one key more than may be parked. At the bound only keys that
// are open are served, with their next message and with a retry; when one of them
// ends, the next is opened.
func orderBound(f *fixture) {
	const last = MaxParkedKeys + 1 // offset of the key that is too many
	msgs := []buffer.Message{{Key: "0"}}
	for key := range MaxParkedKeys + 1 {
		msgs = append(msgs, buffer.Message{Key: fmt.Sprint(key)})
	}
	f.append("orders", msgs...)
	if got := len(f.takeAll("mail")); got != MaxParkedKeys {
		f.Fatalf("took the first messages of %d keys, want %d", got, MaxParkedKeys)
	}
	check := func(step string, scheduled, pending uint64) {
		f.Helper()
		got := f.drainStats("mail")
		if !got.Blocked || got.ParkedKeys != MaxParkedKeys || got.Scheduled != scheduled || got.Pending != pending {
			f.Fatalf("after %s: %+v, want blocked, %d parked keys, %d scheduled, %d pending", step, got, MaxParkedKeys, scheduled, pending)
		}
	}
	check("a take of all", 0, 2)
	f.release("mail", 2, 0)
	check("a release", 1, 2)
	f.wantTake("mail", 9, 2)
	f.ack("mail", 0)
	f.wantTake("mail", 9, 1)
	check("the next message of an open key", 0, 1)
	f.ack("mail", 1)
	f.wantTake("mail", 9, last)
}
