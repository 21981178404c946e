package buffertest

import (
	"errors"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"forebay/buffer"
)

func receiptSections() []section {
	return needing([]section{
		{name: "ids", streams: twoDrains(), run: ids},
		{name: "forged ids", streams: oneDrain(), run: forgedIDs},
		{name: "find in every state", streams: twoDrains(), run: findStates},
		{name: "find counts what is ahead", streams: oneDrain(), run: findAhead},
		{name: "find what was never stored or is gone", streams: []buffer.Stream{
			{Name: "orders", Drains: []string{"mail", "sms"}, KeepDelivered: time.Hour},
		}, run: findGone},
		{name: "find with a new drain", streams: oneDrain(), run: findNewDrain},
		{name: "cancel what waits", streams: twoDrains(), run: cancelWaiting},
		{name: "cancel what is being delivered or final", streams: twoDrains(), run: cancelRefused},
		{name: "watch", streams: twoDrains(), run: watchFires},
	}, needReceipts)
}

func order(offset uint64) buffer.Ref { return buffer.Ref{Stream: "orders", Offset: offset} }

func ids(f *fixture) {
	f.fill("orders", 40)
	f.fill("logs", 40)
	seen := make(map[string]buffer.Ref)
	for _, d := range append(f.takeAll("mail"), f.takeAll("archive")...) {
		id := f.receipts().ID(d.Ref)
		if len(id) != 26 || strings.Trim(strings.ToUpper(id), "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") != "" {
			f.Fatalf("id of %v is %q, want 26 letters and digits", d.Ref, id)
		}
		if other, ok := seen[id]; ok {
			f.Fatalf("%v and %v have the same id %s", d.Ref, other, id)
		}
		seen[id] = d.Ref
		ref, err := f.receipts().Ref(id)
		if err != nil || ref != d.Ref {
			f.Fatalf("Ref(%s) is %v, %v; want %v", id, ref, err, d.Ref)
		}
	}
}

func forgedIDs(f *fixture) {
	f.fill("orders", 2)
	id := f.receipts().ID(order(1))
	forged := []string{"", "x", id[1:], id + "A", strings.Repeat("A", 26), strings.Repeat("=", 26), id[:25] + "\n", " " + id[1:]}
	// Another character anywhere; the last one carries bits that decoders ignore.
	for _, place := range []int{0, 12, 25} {
		for _, c := range "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567" {
			if other := id[:place] + string(c) + id[place+1:]; !strings.EqualFold(other, id) {
				forged = append(forged, other)
			}
		}
	}
	for _, s := range forged {
		ref, err := f.receipts().Ref(s)
		if !errors.Is(err, buffer.ErrNoMessage) {
			f.Fatalf("Ref(%q) is %v, %v; want %v (the id of %v is %s)", s, ref, err, buffer.ErrNoMessage, order(1), id)
		}
	}
	// Neither is the id of an offset that was not given out.
	ref, err := f.receipts().Ref(f.receipts().ID(order(2)))
	if err == nil {
		_, err = f.receipts().Find(ref, f.now)
	}
	f.wantErr("Ref, or else Find, of an offset past the end", err, buffer.ErrNoMessage)
}

func findStates(f *fixture) {
	f.fill("orders", 1)
	want := buffer.Status{
		Ref:        order(0),
		AcceptedAt: f.now,
		Drains:     []buffer.DrainStatus{{Drain: "mail", State: buffer.Queued}, {Drain: "sms", State: buffer.Queued}},
	}
	mail, sms := &want.Drains[0], &want.Drains[1]
	check := func(state buffer.State) {
		f.Helper()
		got := f.find(order(0))
		if diff := differ(want, got, statusOptions()); diff != "" {
			f.Fatalf("Find (-want +got):\n%s", diff)
		}
		if got.State() != state {
			f.Fatalf("state is %s, want %s", got.State(), state)
		}
	}
	check(buffer.Queued)

	f.wantTake("mail", 1, 0)
	mail.State = buffer.Delivering
	check(buffer.Queued) // with the other drain
	f.wantTake("sms", 1, 0)
	sms.State = buffer.Delivering
	check(buffer.Delivering)

	f.Buffer.Return("sms", 0)
	sms.State = buffer.Queued
	check(buffer.Queued)
	f.wantTake("sms", 1, 0)
	r := f.release("sms", 0, time.Minute)
	*sms = buffer.DrainStatus{Drain: "sms", State: buffer.Scheduled, Attempts: 1, Due: r.Due, Status: 500, Error: "no luck"}
	check(buffer.Scheduled)

	f.now = f.now.Add(time.Second)
	f.ack("mail", 0)
	*mail = buffer.DrainStatus{Drain: "mail", State: buffer.Delivered, Attempts: 1, Status: 200, At: f.now}
	check(buffer.Scheduled)

	f.now = r.Due
	f.wantTake("sms", 1, 0)
	sms.State = buffer.Delivering
	check(buffer.Delivering)
	f.Buffer.Bury("sms", 0, buffer.ReasonMaxAttempts, buffer.Result{At: f.now, Attempts: 2, Status: 502, Error: "gave up"})
	*sms = buffer.DrainStatus{Drain: "sms", State: buffer.Dead, Attempts: 2, Status: 502, Error: "gave up", Reason: buffer.ReasonMaxAttempts, At: f.now}
	check(buffer.Dead)
}

// statusOptions leaves out what the contract says nothing about: the attempts
// of a message in flight, and the earlier attempts of one that was cancelled or
// expired.
func statusOptions() cmp.Option {
	return cmp.Options{
		cmpopts.EquateEmpty(),
		cmp.Transformer("known", func(d buffer.DrainStatus) knownStatus {
			if d.State == buffer.Delivering || d.State == buffer.Cancelled || d.State == buffer.Expired {
				d.Attempts, d.Due, d.Status, d.Error = 0, time.Time{}, 0, ""
			}
			return knownStatus(d)
		}),
	}
}

type knownStatus buffer.DrainStatus

func findAhead(f *fixture) {
	f.fill("orders", 6)
	check := func(offset, want uint64) {
		f.Helper()
		if got := f.find(order(offset)).Drains[0]; got.Ahead != want {
			f.Fatalf("offset %d (%s) has %d ahead, want %d", offset, got.State, got.Ahead, want)
		}
	}
	check(0, 0)
	check(5, 5)
	f.wantTake("mail", 3, 0, 1, 2)
	check(3, 0) // what is in flight is not ahead
	check(5, 2)
	f.release("mail", 1, time.Minute)
	check(1, 0)
	check(5, 3) // a retry keeps its place
	f.ack("mail", 0)
	f.Buffer.Return("mail", 2)
	check(2, 1)
	check(5, 4)
	if err := f.cancel(order(3)); err != nil {
		f.Fatalf("Cancel: %v", err)
	}
	check(5, 3)
}

func findGone(f *fixture) {
	f.fill("orders", 3)
	f.wantTake("mail", 2, 0, 1)
	f.wantTake("sms", 1, 0)
	f.ack("mail", 0, 1)
	f.now = f.now.Add(30 * time.Minute)
	f.ack("sms", 0) // keep_delivered runs from the last drain on
	if err := f.cancel(order(2)); err != nil {
		f.Fatalf("Cancel: %v", err)
	}
	f.settle()

	f.now = f.now.Add(59 * time.Minute)
	f.find(order(0))
	f.find(order(2))
	f.now = f.now.Add(2 * time.Minute)
	for _, offset := range []uint64{0, 2} {
		_, err := f.receipts().Find(order(offset), f.now)
		f.wantErr("Find past keep_delivered", err, buffer.ErrGone)
		f.wantErr("Cancel past keep_delivered", f.cancel(order(offset)), buffer.ErrGone)
	}
	f.now = f.now.AddDate(0, 0, 7)
	f.find(order(1)) // unfinished with one drain: it never goes

	_, err := f.receipts().Find(order(3), f.now)
	f.wantErr("Find past the end", err, buffer.ErrNoMessage)
	f.wantErr("Cancel past the end", f.cancel(order(3)), buffer.ErrNoMessage)
	if _, err := f.receipts().Find(buffer.Ref{Stream: "nothing"}, f.now); err == nil {
		f.Fatalf("Find in an unknown stream: no error")
	}
}

func findNewDrain(f *fixture) {
	f.fill("orders", 1)
	f.configure([]buffer.Stream{{Name: "orders", Drains: []string{"sms", "mail"}}})
	f.fill("orders", 1)
	check := func(offset uint64, want ...string) {
		f.Helper()
		var got []string
		for _, d := range f.find(order(offset)).Drains {
			got = append(got, d.Drain)
		}
		if diff := differ(want, got); diff != "" {
			f.Fatalf("drains of offset %d (-want +got):\n%s", offset, diff)
		}
	}
	check(0, "mail")
	check(1, "sms", "mail") // in the order of the configuration
}

func cancelWaiting(f *fixture) {
	f.fill("orders", 4)
	cancel := func(offset uint64) {
		f.Helper()
		if err := f.cancel(order(offset)); err != nil {
			f.Fatalf("Cancel(%d): %v", offset, err)
		}
	}
	wantStates := func(offset uint64, mail buffer.State) {
		f.Helper()
		s := f.find(order(offset))
		if sms := s.Drains[1].State; s.Drains[0].State != mail || sms != buffer.Cancelled {
			f.Fatalf("offset %d: mail %s, sms %s; want %s, cancelled", offset, s.Drains[0].State, sms, mail)
		}
	}
	f.wantTake("mail", 2, 0, 1)
	f.release("mail", 0, time.Second)
	f.now = f.now.Add(time.Minute)
	cancel(0) // scheduled with one, queued with the other
	wantStates(0, buffer.Cancelled)
	if at := f.find(order(0)).Drains[0].At; !at.Equal(f.now) {
		f.Fatalf("cancelled at %s, want %s", clock(at), clock(f.now))
	}
	cancel(1) // in flight with one: it goes on there
	wantStates(1, buffer.Delivering)
	f.ack("mail", 1)
	wantStates(1, buffer.Delivered)
	f.wantTake("mail", 1, 2)
	f.ack("mail", 2)
	cancel(2) // final with one
	wantStates(2, buffer.Delivered)
	f.wantTake("sms", 9, 3)
	f.wantTake("mail", 9, 3)
}

func cancelRefused(f *fixture) {
	f.fill("orders", 3)
	f.wantTake("mail", 2, 0, 1)
	f.wantTake("sms", 2, 0, 1)
	f.wantErr("Cancel of a message in flight with both", f.cancel(order(0)), buffer.ErrDelivering)
	f.ack("mail", 0)
	f.wantErr("Cancel of a message in flight with one, delivered with the other", f.cancel(order(0)), buffer.ErrDelivering)
	f.ack("sms", 0)
	f.wantErr("Cancel of a delivered message", f.cancel(order(0)), buffer.ErrFinal)
	f.bury("mail", 1)
	f.bury("sms", 1)
	f.wantErr("Cancel of a dead message", f.cancel(order(1)), buffer.ErrFinal)
	f.wantErr("Cancel of a waiting message", f.cancel(order(2)), nil)
	f.wantErr("Cancel of a cancelled message", f.cancel(order(2)), buffer.ErrFinal)
	f.wantTake("mail", 9)
}

func watchFires(f *fixture) {
	f.fill("orders", 3)
	steps := []struct {
		what string
		do   func()
	}{
		{"take", func() { f.wantTake("mail", 1, 0) }},
		{"return", func() { f.Buffer.Return("mail", 0) }},
		{"another take", func() { f.wantTake("mail", 1, 0) }},
		{"release", func() { f.release("mail", 0, 0) }},
		{"take of a retry", func() { f.wantTake("mail", 1, 0) }},
		{"ack", func() { f.ack("mail", 0) }},
		{"cancel with the other drain", func() { f.wantErr("Cancel", f.cancel(order(0)), nil) }},
	}
	for _, s := range steps {
		one, stop := f.receipts().Watch(order(0))
		two, stopTwo := f.receipts().Watch(order(0))
		_, stopEarly := f.receipts().Watch(order(0))
		stopEarly()
		if pending(one) {
			f.Fatalf("Watch before the %s fired without a change", s.what)
		}
		s.do()
		if !signalled(one) || !signalled(two) {
			f.Fatalf("Watch did not fire at the %s", s.what)
		}
		stopEarly() // a second call does no harm
		stop()
		stopTwo()
	}
	changed, stop := f.receipts().Watch(order(2))
	defer stop()
	f.wantTake("mail", 1, 1)
	f.bury("mail", 1)
	if pending(changed) {
		f.Fatalf("Watch fired at a change of another message")
	}
	f.wantTake("mail", 1, 2)
	f.bury("mail", 2)
	if !signalled(changed) {
		f.Fatalf("Watch did not fire at the first change")
	}
}
