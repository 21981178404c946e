package drain

import (
	"fmt"
	"time"

	"forebay/limiter"
)

// The fields of an answer that say how much its sink takes.
const (
	RateField  = "Forebay-Rate" // a rate, between the sink and us
	QuotaField = "RateLimit"    // what is left of a quota, for whom and until when
	PauseField = "Retry-After"  // when to come back
)

// RateLasts is how long a sink's Forebay-Rate holds after the last answer that had one.
const RateLasts = time.Minute

// Advice is what one field of an answer says of how much the sink takes.
type Advice struct {
	Field string
	Rate  limiter.Rate  // no more than that
	Lasts time.Duration // for so long, over 0
	Fault string        // why the field is ignored, without what the sink sent; empty: it is not
}

// constraint is what it comes to.
func (a Advice) constraint() Constraint {
	if a.Field == PauseField {
		return RetryAfter
	}
	return RateHeader
}

// within is what is honoured of it: a quota is believed for as long as a Retry-After is.
func (a Advice) within(longest time.Duration) Advice {
	if a.Field == QuotaField {
		a.Lasts = max(minPause, min(a.Lasts, longest))
	}
	return a
}

// ceiling is a rate that a sink asked for.
type ceiling struct {
	rate  limiter.Rate
	until time.Time // zero: there is none
	asked Advice    // what it comes of
}

func (c ceiling) holds(now time.Time) bool { return c.until.After(now) }

// under is a limit that keeps to it. What is left of a quota is spread evenly.
func (c ceiling) under(l limiter.Limit) limiter.Limit {
	if c.rate >= l.Rate {
		return l
	}
	burst := max(1, int(c.rate/100))
	if c.asked.Field == QuotaField {
		burst = 1
	}
	if l.Rate != limiter.Unlimited {
		burst = min(burst, l.Burst)
	}
	return limiter.Limit{Rate: c.rate, Burst: burst}
}

// term explains it to an operator.
func (c ceiling) term() Term {
	t := Term{Name: RateHeader, Rate: c.rate, Until: c.until, Detail: fmt.Sprintf("the sink's %s asks for at most %s", c.asked.Field, c.rate)}
	if c.asked.Field == QuotaField {
		left := float64(c.asked.Rate) * c.asked.Lasts.Seconds()
		t.Detail = fmt.Sprintf("the sink's %s has %.0f left for %s", c.asked.Field, left, c.asked.Lasts)
	}
	return t
}

// ceilings are what the fields of a sink's answers ask for, each until the next that has it.
type ceilings [2]ceiling

// of is the ceiling of a field.
func (c *ceilings) of(field string) *ceiling {
	if field == QuotaField {
		return &c[1]
	}
	return &c[0]
}

// tidy forgets what has ended, and reports whether anything has.
func (c *ceilings) tidy(now time.Time) (ended bool) {
	for i := range c {
		if c[i] != (ceiling{}) && !c[i].holds(now) {
			c[i], ended = ceiling{}, true
		}
	}
	return ended
}

// under is a limit that keeps to those that hold.
func (c *ceilings) under(now time.Time, l limiter.Limit) limiter.Limit {
	for _, x := range c {
		if x.holds(now) {
			l = x.under(l)
		}
	}
	return l
}

// least is the lowest rate that is asked for; Unlimited where none is.
func (c *ceilings) least() limiter.Rate {
	rate := limiter.Unlimited
	for _, x := range c {
		if !x.until.IsZero() {
			rate = min(rate, x.rate)
		}
	}
	return rate
}

// ends is when the next of them ends; zero: there is none.
func (c *ceilings) ends(now time.Time) (at time.Time) {
	for _, x := range c {
		if x.holds(now) {
			at = sooner(at, x.until)
		}
	}
	return at
}

// AdviceResult says what became of advice.
type AdviceResult uint8

// The results. They are a closed set: each is a label value of forebay_sink_advice_total.
const (
	AdviceTaken   AdviceResult = iota // as it was given
	AdviceClamped                     // less of it than was asked for, or more
	AdviceIgnored                     // it made no sense

	adviceResults = 3
)

// String returns the label value.
func (r AdviceResult) String() string { return [adviceResults]string{"taken", "clamped", "ignored"}[r] }

// adviceCounts counts by result: of pauses that were asked for, and of rates.
type adviceCounts struct{ pauses, rates [adviceResults]uint64 }

func (c *adviceCounts) add(name Constraint, r AdviceResult) {
	if name == RetryAfter {
		c.pauses[r]++
	} else {
		c.rates[r]++
	}
}

// advice calls f with each of the counts.
func (s *sinkState) advice(f func(name Constraint, r AdviceResult, n uint64)) {
	s.mu.Lock()
	counts := s.counts
	s.mu.Unlock()
	for r := range AdviceResult(adviceResults) {
		f(RetryAfter, r, counts.pauses[r])
		f(RateHeader, r, counts.rates[r])
	}
}

// advised takes note of what an answer says of how much the sink takes. A quota that
// is used up is a pause of the drains, honoured for as long as longest. It returns what
// was not there before, for the log.
func (s *sinkState) advised(now time.Time, all []Advice, longest time.Duration) (fresh []Advice) {
	if len(all) == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.climb(now)
	for _, asked := range all {
		a := asked.within(longest)
		switch {
		case asked.Fault != "":
			s.counts.add(a.constraint(), AdviceIgnored)
			s.ignored = ignored{asked, now.Add(RateLasts)}
			continue
		case a != asked:
			s.counts.add(a.constraint(), AdviceClamped)
		default:
			s.counts.add(a.constraint(), AdviceTaken)
		}
		if s.follow(now, a, asked) {
			fresh = append(fresh, a)
		}
	}
	s.fund(now)
	s.nudge()
	return fresh
}

// follow does what is asked for, and reports whether that is new. It requires that mu
// is held.
func (s *sinkState) follow(now time.Time, a, was Advice) (fresh bool) {
	if a.Field == QuotaField && a.Rate == 0 {
		return s.rest(now, asked{wanted: was.Lasts, honoured: a.Lasts, by: a.Field})
	}
	c := s.asks.of(a.Field)
	if a.Rate == limiter.Unlimited {
		*c = ceiling{}
		return false
	}
	fresh = c.until.IsZero()
	*c = ceiling{rate: a.Rate, until: now.Add(a.Lasts), asked: was}
	if a.Field == QuotaField { // the tokens that are there are of what is left
		there := min(1, max(0, s.budget.Level(now)))
		c.rate = max(0, a.Rate-limiter.Rate(there/was.Lasts.Seconds()))
	}
	return fresh
}

// ignored is advice that made no sense.
type ignored struct {
	advice Advice
	until  time.Time // when it is told no more
}

func (i ignored) term() Term {
	return Term{Name: RateHeader, Rate: limiter.Unlimited, Until: i.until, Detail: fmt.Sprintf("the sink's %s is ignored: %s", i.advice.Field, i.advice.Fault)}
}

// headers explains what the fields of the sink's answers come to, beside a pause.
func (o outlook) headers(now time.Time) (terms []Term) {
	for _, c := range o.asks {
		if c.holds(now) {
			terms = append(terms, c.term())
		}
	}
	if o.ignored.until.After(now) {
		terms = append(terms, o.ignored.term())
	}
	return terms
}
