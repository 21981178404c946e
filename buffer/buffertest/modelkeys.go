package buffertest

import (
	"errors"
	"slices"
	"time"

	"forebay/buffer"
)

// modelOnce is what a stream knows of an idempotency key.
type modelOnce struct {
	body     string
	accepted buffer.Accepted
	until    time.Time
}

// unfinishedOf returns the messages of a key that a drain has not finished.
func (s *modelStream) unfinishedOf(key string) []uint64 {
	var list []uint64
	for offset := range uint64(len(s.messages)) {
		open := slices.ContainsFunc(s.drains, func(d *modelDrain) bool {
			p := d.place(offset)
			return p != nil && !p.state.Final()
		})
		if open && s.messages[offset].Key == key {
			list = append(list, offset)
		}
	}
	return list
}

// cancelKey cancels what waits of a cancel key, durably, and makes the attempts
// under way the last ones. It counts the messages that it cancelled.
func (s *modelStream) cancelKey(key string, now time.Time) (n int) {
	for i, msg := range s.messages {
		offset := uint64(i)
		if !hasCancelKey(msg, key) {
			continue
		}
		if err := s.cancel(offset, now); !errors.Is(err, buffer.ErrFinal) && !errors.Is(err, buffer.ErrDelivering) {
			n++
		}
		for _, d := range s.drains {
			if p := d.place(offset); p != nil && p.inFlight && p.cancelAt.IsZero() {
				p.cancelAt, p.earlier = now, nil
			}
		}
	}
	return n
}

func hasCancelKey(msg buffer.Message, key string) bool {
	keys := msg.CancelKeys
	if keys == nil {
		keys = []string{msg.Key}
	}
	return slices.Contains(keys, key)
}

// lookUp returns what is known of an idempotency key, or nil.
func (s *modelStream) lookUp(key string, now time.Time) *buffer.Accepted {
	known, ok := s.once[key]
	if !ok || !now.Before(known.until) {
		return nil
	}
	return &known.accepted
}
