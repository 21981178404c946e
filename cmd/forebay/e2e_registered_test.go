package main_test

import (
	"cmp"
	"crypto/sha256"
	"net/http"
	"slices"
	"time"
)

// wantBalance waits until both drains have no more to do, and none lacks anything.
func (s *scenario) wantBalance(n int) {
	s.t.Helper()
	until(s.t, 30*time.Second, "nothing buffered", func() bool {
		return !slices.ContainsFunc(audits(s.t, s.srv), func(a account) bool { return a.Buffered > 0 })
	})
	for _, a := range audits(s.t, s.srv) {
		if a.Accepted != n || a.Delivered != n {
			s.t.Errorf("audit of %s = %+v, want %d accepted and delivered", a.Drain, a, n)
		}
	}
}

// verdict holds what both services saw against what was registered.
func (s *scenario) verdict(n int) {
	c := s.callers
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, f := range c.faults {
		if i == 10 {
			s.t.Errorf("and %d more", len(c.faults)-i)
			break
		}
		s.t.Error(f)
	}
	if len(c.numbers) != n || c.again != (n+16)/20 || c.changed != (n+92)/100 {
		s.t.Errorf("%d registrations, %d sent again, %d refused with another body; want %d, %d, %d", len(c.numbers), c.again, c.changed, n, (n+16)/20, (n+92)/100)
	}
	for name, service := range map[string]*service{"email": s.email, "sms": s.text} {
		log := service.arrivals()
		s.t.Logf("%s: %d attempts, %d repeats over kills", name, len(log), s.deliveries(name, log))
	}
	s.rates()
	s.pauses()
}

// deliveries looks at each attempt and each id, and counts those that were sent twice.
func (s *scenario) deliveries(name string, log []arrival) (repeats int) {
	firsts := make(map[string]time.Time)
	for _, a := range log {
		n, known := s.callers.numbers[a.ID]
		if !known {
			s.t.Errorf("%s: %s was never registered", name, a.ID)
			continue
		}
		if key, trace := a.Header.Get("Idempotency-Key"), a.Header.Get("Traceparent"); key != registrationKey(n) || trace != registrationTrace(n) {
			s.t.Errorf("%s: registration %d came with the key %q and the trace %q", name, n, key, trace)
		}
		if a.Whole && a.Sum != sha256.Sum256(registrationBody(n)) {
			s.t.Errorf("%s: registration %d came with another body", name, n)
		}
		if a.Status != http.StatusOK || !a.Whole {
			continue
		}
		first, twice := firsts[a.ID]
		if !twice {
			firsts[a.ID] = a.At
			continue
		}
		if repeats++; !s.overKill(first, a.At) {
			s.t.Errorf("%s: registration %d was delivered at %v and again at %v, with no kill between", name, n, first, a.At)
		}
	}
	for id, n := range s.callers.numbers {
		if _, ok := firsts[id]; !ok {
			s.t.Errorf("%s: registration %d was never delivered", name, n)
		}
	}
	return repeats
}

// overKill reports whether a kill came soon after the first of two times, and before the
// other.
func (s *scenario) overKill(first, again time.Time) bool {
	return slices.ContainsFunc(s.kills, func(kill time.Time) bool {
		return first.Before(kill) && kill.Sub(first) < time.Second+s.late.max() && again.After(kill)
	})
}

// rates looks for any stretch of time with more attempts than there may be.
func (s *scenario) rates() {
	split := func(log []arrival) (before, after []time.Time) {
		at := times(log)
		// What was written before the rate was raised may arrive a little later, never the other way round.
		i, _ := slices.BinarySearchFunc(at, s.raised, time.Time.Compare)
		return at[:i], at[i:]
	}
	before, after := split(s.email.arrivals())
	for _, of := range []struct {
		name string
		at   []time.Time
		rate int
	}{{"email before the reload", before, 50}, {"email after it", after, 80}, {"sms", times(s.text.arrivals()), 40}} {
		rate := float64(of.rate * s.speed)
		if b := (envelope{rate: rate, burst: max(1, rate/100), late: s.late.max()}).breach(of.at); b != "" {
			s.t.Errorf("%s: %s", of.name, b)
		}
	}
}

// pauses looks for attempts at the e-mail service while it had asked for a second
// without any, also over a kill. What was under way when it asked may arrive; a kill right
// after it may come before it was stored.
func (s *scenario) pauses() {
	log := s.email.arrivals()
	asked := 0
	for _, a := range log {
		if a.Status != http.StatusServiceUnavailable {
			continue
		}
		asked++
		from, to := a.At.Add(300*time.Millisecond+2*s.late.max()), a.At.Add(time.Second)
		if slices.ContainsFunc(s.kills, func(kill time.Time) bool { return kill.After(a.At) && kill.Before(from) }) {
			continue
		}
		if n := between(log, from, to); n > 0 {
			s.t.Errorf("%d attempts at the e-mail service in the second that it asked for at %v", n, a.At)
		}
	}
	if least := len(log) / (100 * s.speed); asked < cmp.Or(least, 1) {
		s.t.Errorf("the e-mail service asked %d times for a pause in %d attempts: nothing was tested", asked, len(log))
	}
}
