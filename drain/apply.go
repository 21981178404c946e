package drain

import (
	"fmt"
	"slices"
	"time"

	"forebay/policies"
)

// Apply makes a policy the present one: new drains start if Run is running,
// those that stay are updated, those that are gone stop. The buffer must know
// the drains already. Budgets and pacers belong to names and go on. An error
// says why a sink cannot be built, and leaves everything as it was. Apply does
// not wait for attempts in flight.
func (d *Drains) Apply(set *policies.Set) error {
	d.applying.Lock()
	defer d.applying.Unlock()
	built, err := d.build(set)
	if err != nil {
		return err
	}
	d.replace(time.Now(), set, built)
	signal(d.changed)
	if d.expirer != nil {
		signal(d.expirer.changed)
	}
	d.promiser.wake()
	return nil
}

func (d *Drains) replace(now time.Time, set *policies.Set, built map[string]Sink) {
	d.holding.Lock()
	defer d.holding.Unlock()
	d.mu.Lock()
	d.applySinks(now, set, built)
	d.applyDrains(now, set)
	absent := d.absent()
	d.mu.Unlock()
	d.tellAbsent(now, absent)
}

// build makes the sinks that are new or different: all that can fail.
func (d *Drains) build(set *policies.Set) (map[string]Sink, error) {
	built := make(map[string]Sink)
	fail := func(err error) (map[string]Sink, error) {
		for _, sink := range built {
			closeIdle(sink)
		}
		return nil, err
	}
	for _, p := range set.Sinks {
		if s := d.sink(p.Name); s != nil && s.fits(p) {
			continue
		}
		sink, err := d.cfg.NewSink(p)
		if err != nil {
			return fail(fmt.Errorf("sink %s: %w", p.Name, err))
		}
		built[p.Name] = sink
	}
	for _, p := range set.Drains {
		if set.Sink(p.Sink) == nil {
			return fail(fmt.Errorf("drain %s: no sink %s", p.Name, p.Sink))
		}
	}
	return built, nil
}

func (d *Drains) sink(name string) *sinkState {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sinks[name]
}

// applySinks requires that mu is held.
func (d *Drains) applySinks(now time.Time, set *policies.Set, built map[string]Sink) {
	for _, p := range set.Sinks {
		if s, ok := d.sinks[p.Name]; ok {
			s.update(now, p, built[p.Name])
			continue
		}
		s := newSinkState(now, p, built[p.Name])
		s.held, s.lags, s.keeps = d.sinkHolds[p.Name], d.lags, d.cfg.RestChanged
		s.restore(now, d.rests[p.Name], patience(set, p.Name))
		delete(d.rests, p.Name)
		d.sinks[p.Name] = s
	}
	for name, s := range d.sinks {
		if set.Sink(name) == nil {
			s.close()
			if r := s.resting(); r.Until.After(now) {
				d.rests[name] = r
			}
			delete(d.sinks, name)
		}
	}
}

// applyDrains requires that mu is held.
func (d *Drains) applyDrains(now time.Time, set *policies.Set) {
	for name := range d.drains {
		if set.Drain(name) == nil {
			d.metrics.forget(name)
			delete(d.drains, name)
		}
	}
	d.order = d.order[:0]
	for _, p := range set.Drains {
		d.order = append(d.order, p.Name)
		sink := d.sinks[p.Sink]
		dr, ok := d.drains[p.Name]
		if ok && dr.sink() != sink {
			d.metrics.forget(p.Name)
		}
		next := plan{policy: p, sink: sink, batch: sink.batch(), meters: d.metrics.of(p.Name, p.Sink)}
		if s := set.Stream(p.Stream); s != nil {
			next.expiry = expiryOf(*s, p.Deadline)
			next.timed = slices.ContainsFunc(set.Routes, func(r policies.Route) bool { return r.Timing && r.Stream == s.Name })
		}
		if ok {
			dr.update(now, next)
			continue
		}
		d.drains[p.Name] = d.newDrain(now, next)
	}
	d.openDoors()
	for name, s := range d.sinks {
		s.honour(patience(set, name))
	}
	d.listUsers()
}

// listUsers tells sinks which drains they have. It requires that mu is held.
func (d *Drains) listUsers() {
	users := make(map[*sinkState][]*drain)
	for _, name := range d.order {
		dr := d.drains[name]
		users[dr.sink()] = append(users[dr.sink()], dr)
	}
	for _, s := range d.sinks {
		list := users[s]
		s.users.drains.Store(&list)
	}
}

// patience is the longest Retry-After that a drain to a sink honours.
func patience(set *policies.Set, sink string) (longest time.Duration) {
	for _, p := range set.Drains {
		if p.Sink == sink {
			longest = max(longest, p.Retry.HonourRetryAfter)
		}
	}
	return longest
}

func (d *Drains) newDrain(now time.Time, p plan) *drain {
	dr := &drain{
		name:      p.policy.Name,
		buf:       d.buf,
		log:       d.log,
		random:    d.cfg.Random,
		bound:     d.bound,
		event:     d.event,
		tidy:      d.tidy,
		expirer:   d.expirer,
		promiser:  d.promiser,
		canceller: d.canceller,
		changed:   make(chan struct{}, 1),
		freed:     make(chan struct{}, 1),
		done:      make(chan struct{}),
		workers:   newWorkers(),
		plan:      p,
		core:      newCore(now, p.policy.Schedule.At, p.sink.budget),
	}
	dr.core.setBatch(now, p.batch)
	dr.core.weight, dr.core.freed = p.policy.Weight, dr.freed
	dr.core.late = latenessOf(p.policy.Deadline)
	dr.core.setHands(now, d.hands[dr.name])
	return dr
}
