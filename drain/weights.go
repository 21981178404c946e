package drain

import "time"

// weights has drains that wait for one budget take from it in the ratio of their
// weights: start-time fair queueing. Whoever had more than its part leaves to those who
// wait what they are behind. A drain that did not wait has no claim to what was
// taken meanwhile. It is pure, and not safe for concurrent use.
type weights struct {
	clock  float64 // what those who wait have had at least, each over its weight
	stakes map[*core]*stake
}

// stake is what a drain has had.
type stake struct {
	weight float64
	used   float64 // over its weight
	needs  int64   // bytes that its next message waits for
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

// leaves is how many tokens and slots a drain leaves to others, most at most.
func (w *weights) leaves(now time.Time, c *core, lacks map[*core]lack, most int) (n int) {
	mine := max(w.clock, w.of(c).used)
	for other, l := range lacks {
		s := w.stakes[other]
		if other == c || s == nil || !now.Before(l.until) {
			continue
		}
		behind := (mine-max(w.clock, s.used))*s.weight + unresolved
		if n += max(0, min(l.n, int(min(behind, float64(most))))); n >= most {
			return most
		}
	}
	return n
}

// took takes note of what a drain took beside those who wait.
func (w *weights) took(now time.Time, c *core, n int, lacks map[*core]lack) {
	s := w.of(c)
	begin := max(w.clock, s.used)
	s.used = begin + float64(n)/s.weight
	least := begin
	for other, l := range lacks {
		if o := w.stakes[other]; other != c && o != nil && now.Before(l.until) {
			least = min(least, max(w.clock, o.used))
		}
	}
	w.clock = max(w.clock, least)
}

// gaveBack takes note of what a drain took and did not use.
func (w *weights) gaveBack(c *core, n int) {
	if s := w.stakes[c]; s != nil {
		s.used -= float64(n) / s.weight
	}
}

// quit forgets a drain that does not take from the budget any more.
func (s *shares) quit(c *core) {
	delete(s.lacks, c)
	delete(s.drains.stakes, c)
}

// quit forgets a drain that has gone, or to another sink.
func (s *sinkState) quit(c *core) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shares.quit(c)
}

// gaveBack takes note of attempts that a drain did not start.
func (s *sinkState) gaveBack(c *core, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shares.drains.gaveBack(c, n)
}
