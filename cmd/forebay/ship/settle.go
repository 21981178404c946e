package ship

import (
	"fmt"
	"math/rand/v2"
	"time"
)

const (
	firstBackoff = 500 * time.Millisecond
	lastBackoff  = time.Minute
	// remind is how often a failure that lasts is told again.
	remind = time.Minute
	// maxStrange is how many lines may be refused one after the other by an answer that
	// is none of Forebay's: a proxy says 400 to all.
	maxStrange = 20
)

// settle notes what came of a round.
func (s *Shipper) settle(rs []result, now time.Time) error {
	s.sending = false
	var worst *answer
	for _, r := range rs {
		r.file.underway = false
		kept, err := s.settleOne(r, now)
		if err != nil {
			return err
		}
		if kept && (worst == nil || r.wait > worst.wait) {
			worst = &r.answer
		}
	}
	switch {
	case worst != nil:
		s.retries.Add(1)
		s.fail(*worst, now)
	case !s.failing.IsZero():
		s.cfg.Say(fmt.Sprintf("batches are taken again, after %v", now.Sub(s.failing).Round(time.Second)))
		fallthrough
	default:
		s.fails, s.failing, s.resume = 0, time.Time{}, time.Time{}
	}
	return nil
}

// settleOne reports whether the batch is to be sent again.
func (s *Shipper) settleOne(r result, now time.Time) (kept bool, err error) {
	f := r.file
	switch r.verdict {
	case taken, unsplit:
		s.lines.Add(countLines(f.first()))
		s.bytes.Add(int64(len(f.first())))
		s.batches.Add(1)
		if r.duplicate {
			s.duplicates.Add(1)
		}
		f.taken()
		s.strange = 0
		if r.verdict == unsplit {
			return false, fmt.Errorf("%s made other messages of a batch than its lines: %s; its route has to say split: %s", s.cfg.Target.Redacted(), r.reason, s.cfg.Kind)
		}
	case bad, altered:
		if r.verdict == bad && f.split(r.line) {
			return false, nil
		}
		if s.strange++; r.ours || s.strange <= maxStrange {
			return s.reject(r, now)
		}
		fallthrough // whoever answers is none that knows lines
	case refused:
		if s.cfg.Once {
			return true, fmt.Errorf("%s answers %s", s.cfg.Target.Redacted(), r.reason)
		}
		return true, nil
	default:
		return true, nil
	}
	return false, nil
}

// reject puts a batch aside that cannot be sent.
func (s *Shipper) reject(r result, now time.Time) (kept bool, err error) {
	f := r.file
	n, err := reject(s.cfg.Rejected, f, f.first(), r.answer, now)
	if err != nil {
		s.follow.once(err.Error())
		return true, nil
	}
	s.rejected.Add(n)
	if now.Sub(s.toldRejected) >= remind {
		s.cfg.Say(fmt.Sprintf("%s, byte %d: refused with %s; such lines are in %s, %d by now", f.Path, f.Acked, r.reason, s.cfg.Rejected, s.rejected.Load()))
		s.toldRejected = now
	}
	f.taken()
	return false, nil
}

// fail has the next round wait: as long as was asked for, else longer each time, and
// never as long as others wait.
func (s *Shipper) fail(a answer, now time.Time) {
	wait := min(lastBackoff, firstBackoff<<min(s.fails, 10))
	wait = wait/2 + rand.N(wait/2)
	if a.wait > 0 {
		wait = a.wait + rand.N(a.wait/8+time.Millisecond)
	}
	s.fails++
	s.resume = now.Add(wait)
	if s.failing.IsZero() {
		s.failing = now
		s.told = time.Time{}
	}
	if now.Sub(s.told) >= remind {
		s.cfg.Say(fmt.Sprintf("%s: %s; nothing is lost, the next attempt is in %v", s.cfg.Target.Redacted(), a.reason, wait.Round(100*time.Millisecond)))
		s.told = now
	}
}
