package drain

// weights has drains that wait for one budget take from it in the ratio of their
// weights: start-time fair queueing. Who has had least comes first. A drain that did not
// wait has no claim to what was taken meanwhile. It is pure, and not safe for
// concurrent use.
type weights struct {
	clock  float64 // what those who wait have had at least, each over its weight
	stakes map[*core]*stake
}

// stake is what a drain has had.
type stake struct {
	weight float64
	used   float64 // over its weight
	needs  int64   // bytes that its next message waits for
	size   float64 // about the mean of its last bodies, in bytes; 0: it had none
}

// of is the stake of a drain, as it weighs now.
func (w *weights) of(c *core) *stake {
	s, ok := w.stakes[c]
	if !ok {
		if w.stakes == nil {
			w.stakes = make(map[*core]*stake)
		}
		s = &stake{}
		w.stakes[c] = s
	}
	s.weight = max(1, float64(c.weight))
	return s
}

// had is what a drain has had as far as that counts.
func (w *weights) had(c *core) float64 { return max(w.clock, w.of(c).used) }

// took takes note of what a drain took; first is who waits and has had least.
func (w *weights) took(c *core, n int, first *place) {
	s, begin := w.of(c), w.had(c)
	s.used = begin + float64(n)/s.weight
	if first != nil {
		begin = min(begin, first.key)
	}
	w.clock = max(w.clock, begin)
}

// gaveBack takes note of attempts that a drain did not start.
func (s *sinkState) gaveBack(c *core, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if stake := s.shares.drains.stakes[c]; stake != nil {
		stake.used -= float64(n) / stake.weight
	}
}
