package drain

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"forebay/buffer"
)

const (
	// crowdFor is how long it is believed who takes from a sink.
	crowdFor = 100 * time.Millisecond
	// maxParties bounds those of the others that an estimate looks at one by one.
	maxParties = 16
)

// users is who takes from a sink, for estimates.
type users struct {
	drains atomic.Pointer[[]*drain]

	mu      sync.Mutex
	seen    time.Time // guarded by mu
	parties []user    // guarded by mu; who has something to send, most first; replaced whole
	inflow  inflow    // guarded by mu
}

// inflow is how fast streams grow, of late.
type inflow struct{ now, before mark }

// mark is how much streams had accepted at a time.
type mark struct {
	at       time.Time
	accepted map[string]uint64
}

// inflowOver is how long growth is looked at, at least.
const inflowOver = 10 * time.Second

// note takes note of what was accepted up to now.
func (f *inflow) note(now time.Time, streams []buffer.StreamStats) {
	if !f.now.at.IsZero() && now.Sub(f.now.at).Abs() < inflowOver {
		return
	}
	m := mark{now, make(map[string]uint64, len(streams))}
	for _, s := range streams {
		m.accepted[s.Stream] = s.Accepted
	}
	f.before, f.now = f.now, m
}

// rate is how many messages a second come to a stream that has so many; false: not known.
func (f *inflow) rate(now time.Time, stream string, accepted uint64) (float64, bool) {
	from := f.before
	if from.at.IsZero() {
		from = f.now
	}
	was, ok := from.accepted[stream]
	took := now.Sub(from.at).Seconds()
	if !ok || accepted < was || took < 1 {
		return 0, false
	}
	return float64(accepted-was) / took, true
}

type user struct {
	drain *drain
	party
}

// crowd is who takes from the sink beside a drain. The caller holds no drain's mu.
func (s *sinkState) crowd(now time.Time, me *drain) crowd {
	weight := me.weight()
	s.mu.Lock()
	b, stake := s.policy.Budget, s.shares.drains.stakes[me.core]
	c := crowd{live: s.came.rate(now), most: 0.5, mine: party{weight: weight}}
	if b.ReserveForLive > 0 {
		c.most = b.ReserveForLive
	}
	if stake != nil {
		c.mine.size = stake.size
	}
	if b.Bytes > 0 && c.mine.size > 0 {
		c.bytes = max(1, float64(b.Bytes)-s.carried.rate(now))
	}
	s.mu.Unlock()
	if drains := s.users.drains.Load(); drains != nil && len(*drains) > 1 {
		c.others = others(s.present(now, *drains), me)
	}
	return c
}

// present is who has something to send.
func (s *sinkState) present(now time.Time, drains []*drain) []user {
	u := &s.users
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.seen.IsZero() || now.Sub(u.seen).Abs() >= crowdFor {
		stats := drains[0].buf.Stats()
		u.inflow.note(now, stats.Streams)
		u.parties, u.seen = u.inflow.count(now, drains, stats), now
		s.measure(u.parties)
	}
	return u.parties
}

// count looks at what drains of the sink have to send.
func (f *inflow) count(now time.Time, drains []*drain, stats buffer.Stats) (all []user) {
	names := make(map[string]*drain, len(drains))
	for _, dr := range drains {
		names[dr.name] = dr
	}
	accepted := make(map[string]uint64, len(stats.Streams))
	for _, s := range stats.Streams {
		accepted[s.Stream] = s.Accepted
	}
	for _, count := range stats.Drains {
		dr := names[count.Drain]
		if dr == nil {
			continue
		}
		p := dr.party(now)
		p.left = float64(count.Pending)
		if comes, ok := f.rate(now, count.Stream, accepted[count.Stream]); ok {
			p.comes = comes
		}
		if p.left+p.comes > 0 {
			all = append(all, user{dr, p})
		}
	}
	slices.SortFunc(all, func(a, b user) int {
		return cmp.Or(cmp.Compare(b.left, a.left), cmp.Compare(a.drain.name, b.drain.name))
	})
	return all
}

// measure says how large their bodies are.
func (s *sinkState) measure(all []user) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range all {
		if stake := s.shares.drains.stakes[all[i].drain.core]; stake != nil {
			all[i].size = stake.size
		}
	}
}

// others is all but one drain; those who have least to send are made one where they are many.
func others(all []user, me *drain) (list []party) {
	n, rest := 0.0, party{}
	for _, u := range all {
		switch {
		case u.drain == me:
		case len(list) < maxParties:
			list = append(list, u.party)
		default:
			n++
			rest.weight, rest.left, rest.size = rest.weight+u.weight, rest.left+u.left, rest.size+u.size
			rest.most, rest.comes = rest.most+u.most, rest.comes+u.comes
		}
	}
	if n > 0 {
		rest.size /= n
		list = append(list, rest)
	}
	return list
}

func (d *drain) weight() float64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return max(1, float64(d.core.weight))
}

// party is what the drain is to others, but for what it has to send.
func (d *drain) party(now time.Time) party {
	d.mu.Lock()
	defer d.mu.Unlock()
	w := d.core.at(now)
	return party{weight: max(1, float64(d.core.weight)), at: d.core.at, window: w, most: float64(w.Rate)}
}
