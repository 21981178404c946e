package buffertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"forebay/buffer"
)

func concurrentSections() []section {
	return []section{
		{name: "wake is signalled", streams: twoDrains(), run: wakeSignalled},
		{name: "every append wakes", streams: twoDrains(), run: everyAppendWakes},
		{name: "no wake-up is lost", streams: twoDrains(), run: noLostWake},
		{name: "concurrent appends", streams: oneDrain(), run: concurrentAppends},
	}
}

func wakeSignalled(f *fixture) {
	wake := f.Buffer.Wake("mail")
	want := func(what string) {
		f.Helper()
		if !signalled(wake) {
			f.Fatalf("Wake(mail) is not signalled after %s", what)
		}
	}
	f.fill("orders", 1)
	want("an append")
	f.fill("orders", 1)
	f.fill("orders", 1) // with the slot full, an append does not block
	want("two appends")
	if f.Buffer.Wake("mail") != wake {
		f.Fatalf("Wake(mail) gives another channel at each call")
	}
	f.wantTake("mail", 3, 0, 1, 2)
	pending(wake) // empties the slot, should the second signal have come late

	f.Buffer.Return("mail", 0)
	want("a return")
	f.release("mail", 1, time.Second)
	want("a release")
	f.configure(append(twoDrains(), buffer.Stream{Name: "more", Drains: []string{"extra"}}))
	f.fill("orders", 1)
	want("an append after Configure")
	if !signalled(f.Buffer.Wake("sms")) {
		f.Fatalf("Wake(sms) is not signalled after appends")
	}
}

// everyAppendWakes leaves no signal behind that could stand in for a missing one.
func everyAppendWakes(f *fixture) {
	for n := range uint64(100) {
		f.fill("orders", 1)
		for _, drain := range []string{"mail", "sms"} {
			if !signalled(f.Buffer.Wake(drain)) {
				f.Fatalf("Wake(%s) is not signalled after append %d", drain, n)
			}
			f.wantTake(drain, 9, n)
			f.ack(drain, n)
		}
	}
}

// noLostWake runs producers against drains that sleep until they are woken: a
// lost signal leaves one of them waiting.
func noLostWake(f *fixture) {
	const producers, each = 4, 75
	g, ctx := errgroup.WithContext(context.Background())
	for range producers {
		g.Go(func() error {
			for i := range each {
				if _, err := f.Buffer.Append(ctx, "orders", f.now, []buffer.Message{small(i)}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	for _, drain := range []string{"mail", "sms"} {
		g.Go(func() error { return f.drain(drain, producers*each) })
	}
	if err := g.Wait(); err != nil {
		f.Fatalf("%v", err)
	}
	f.wantTake("mail", 9)
	f.wantTake("sms", 9)
}

// drain takes and acks until it has seen n messages, each once and in order.
func (f *fixture) drain(drain string, n int) error {
	for seen := 0; seen < n; {
		ds, _, err := f.Buffer.Take(drain, f.now, 7)
		if err != nil {
			return err
		}
		for _, d := range ds {
			if d.Offset != uint64(seen) {
				return fmt.Errorf("%s got offset %d, want %d", drain, d.Offset, seen)
			}
			seen++
			f.ack(drain, d.Offset)
		}
		if len(ds) == 0 && !signalled(f.Buffer.Wake(drain)) {
			return fmt.Errorf("%s was not woken for %s after %d of %d messages", drain, patience, seen, n)
		}
	}
	return nil
}

// stored is one append of a goroutine.
type stored struct {
	buffer.Accepted
	bodies []string
}

func concurrentAppends(f *fixture) {
	const goroutines, appends = 32, 20
	g, ctx := errgroup.WithContext(context.Background())
	results := make([][]stored, goroutines)
	for who := range goroutines {
		g.Go(func() error {
			for i := range appends {
				s, err := f.appendNamed(ctx, who, i)
				if err != nil {
					return err
				}
				results[who] = append(results[who], s)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		f.Fatalf("%v", err)
	}
	f.wantDense(results)
}

// appendNamed appends one to four messages that carry their writer's number, at
// a time that goes back and forth.
func (f *fixture) appendNamed(ctx context.Context, who, i int) (stored, error) {
	var msgs []buffer.Message
	var s stored
	for j := range 1 + (who+i)%4 {
		body := fmt.Sprintf("writer %d, append %d, message %d", who, i, j)
		s.bodies = append(s.bodies, body)
		msgs = append(msgs, buffer.Message{Body: []byte(body)})
	}
	now := f.now.Add(time.Duration((who*7+i*13)%40-20) * time.Second)
	a, err := f.Buffer.Append(ctx, "orders", now, msgs)
	if err == nil && a.Count != len(msgs) {
		err = errors.New("another Count than messages")
	}
	if err != nil {
		return s, fmt.Errorf("append %d of writer %d: %w", i, who, err)
	}
	s.Accepted = a
	return s, nil
}

// wantDense checks that the appends share the offsets from 0 without a gap,
// each writer's in its order, at times that never decrease, and that what is
// taken lies where its append said.
func (f *fixture) wantDense(results [][]stored) {
	f.Helper()
	for who, list := range results {
		if !slices.IsSortedFunc(list, byFirst) {
			f.Fatalf("offsets of writer %d are not in the order of its appends: %v", who, list)
		}
	}
	all := slices.Concat(results...)
	slices.SortFunc(all, byFirst)
	var bodies []string
	for i, s := range all {
		if s.First != uint64(len(bodies)) {
			f.Fatalf("append %v begins at offset %d, want %d", s.bodies, s.First, len(bodies))
		}
		if i > 0 && s.At.Before(all[i-1].At) {
			f.Fatalf("offset %d was accepted at %s, offset %d before it at %s", s.First, clock(s.At), all[i-1].First, clock(all[i-1].At))
		}
		bodies = append(bodies, s.bodies...)
	}
	ds := f.takeAll("mail")
	if len(ds) != len(bodies) {
		f.Fatalf("took %d messages, want %d", len(ds), len(bodies))
	}
	for i, d := range ds {
		if d.Offset != uint64(i) || string(d.Body) != bodies[i] {
			f.Fatalf("delivery %d is offset %d: %q, want %q", i, d.Offset, d.Body, bodies[i])
		}
	}
}

func byFirst(a, b stored) int { return int(a.First) - int(b.First) }
