package policies

import (
	"fmt"
	"math"
	"slices"
	"time"

	"forebay/limiter"
)

func (c *checker) intervals() {
	used := make(map[*Interval]bool)
	for _, d := range c.set.Drains {
		for _, e := range d.Schedule.Entries {
			for _, iv := range slices.Concat(e.During, e.Except) {
				used[iv] = true
			}
		}
	}
	for i := range c.set.Intervals {
		iv := &c.set.Intervals[i]
		o := object{"time interval", iv.Name}
		if !used[iv] {
			c.warn(o, "name it in a schedule, or remove it", "nothing uses time interval %s", iv.Name)
		}
		if !c.pastDates(iv) && !c.comes(iv) {
			c.warn(o, "do its conditions ever hold together?", "time interval %s is not active once in the next 400 days", iv.Name)
		}
	}
}

// pastDates reports whether some of an interval's specs are over for good.
func (c *checker) pastDates(iv *Interval) (any bool) {
	for i := range iv.specs {
		s := &iv.specs[i]
		today, _ := splitDay(c.now.Unix() + s.offset(c.now.Unix()))
		if len(s.dates) == 0 || s.dates[len(s.dates)-1].to >= today {
			continue
		}
		any = true
		c.warnAt(s.datesAt, "add those to come, or remove it", "all dates here of time interval %s are in the past", iv.Name)
	}
	return any
}

// comes reports whether an interval is active within the horizon.
func (c *checker) comes(iv *Interval) bool {
	return iv.Active(c.now) || !iv.NextChange(c.now).IsZero()
}

func (c *checker) drain(d *Drain) {
	o := object{"drain", d.Name}
	budget := limiter.Unlimited
	if s := c.set.Sink(d.Sink); s != nil {
		budget = s.Budget.Limit.Rate
	}
	if budget == limiter.Unlimited && d.Schedule.Base == limiter.Unlimited {
		c.warn(o, "give it a schedule, or its sink a budget with a rate", "nothing paces drain %s", d.Name)
	}
	c.rates(d, budget)
	s := c.set.Stream(d.Stream)
	if s != nil && d.Deadline.MaxDelay >= s.Retention {
		c.warn(o, "lower max_delay, or raise the stream's retention", "the max_delay %s of drain %s never comes: retention of stream %s is %s",
			formatDuration(d.Deadline.MaxDelay), d.Name, s.Name, formatDuration(s.Retention))
	}
	c.calendar(d, s)
}

// rates compares a drain's rates with its sink's budget.
func (c *checker) rates(d *Drain, budget limiter.Rate) {
	if budget == 0 {
		return // the sink's own warning says it
	}
	o := object{"drain", d.Name}
	if r := d.Schedule.Base; r != limiter.Unlimited && r > budget {
		c.warn(o, "lower it, or raise the budget if the sink can take more", "the base rate %s of drain %s is above its sink's budget of %s", r, d.Name, budget)
	}
	if r := d.Schedule.Floor; r > budget {
		c.warn(o, "lower it, or raise the budget if the sink can take more", "the floor %s of drain %s is above its sink's budget of %s", r, d.Name, budget)
	}
	for _, e := range d.Schedule.Entries {
		if e.Rate != limiter.Unlimited && e.Rate > budget {
			c.warn(entryOf(d.Name, e.Name), "lower it, or raise the budget if the sink can take more",
				"the rate %s of entry %s is above its sink's budget of %s", e.Rate, quote(e.Name), budget)
		}
	}
}

// calendar looks 400 days ahead, or until everything has been seen.
func (c *checker) calendar(d *Drain, s *Stream) {
	held := make(map[string]bool)
	moves := false
	patience := patience(d, s)
	var still, stuck time.Time // since when the rate is 0, and for too long
	for at, w := range d.Schedule.Windows(c.now, c.now.Add(horizon*time.Second)) {
		if c.windows++; c.windows > maxWindows {
			return
		}
		if w.Because != base {
			held[w.Because] = true
		}
		switch {
		case w.Rate > 0:
			moves, still = true, time.Time{}
		case still.IsZero():
			still = at
		}
		if !still.IsZero() && stuck.IsZero() && w.Until.Sub(still) > patience {
			stuck = still
		}
		if moves && (patience == forever || !stuck.IsZero()) && len(held) == len(d.Schedule.Entries) {
			break
		}
	}
	switch o := (object{"drain", d.Name}); {
	case !moves:
		c.warn(o, "rate 0 starts no delivery; give its schedule a base or an entry above 0, and to stop it for a while run `forebay drains pause "+d.Name+" --reason WHY`",
			"the rate of drain %s is 0 for the next 400 days", d.Name)
	case !stuck.IsZero():
		c.warn(o, "let it move in between, or raise retention or max_delay",
			"drain %s stands still from %s on for longer than a message may wait: %s", d.Name, stuck.UTC().Format(time.RFC3339), formatDuration(patience))
	}
	for _, e := range d.Schedule.Entries {
		if !held[e.Name] {
			c.warn(entryOf(d.Name, e.Name), c.whyNever(d, e), "entry %s does not hold once in the next 400 days", quote(e.Name))
		}
	}
}

// forever is the patience of messages whose drain never stands still.
const forever = time.Duration(math.MaxInt64)

// patience is how long a message may wait for a drain before it ends.
func patience(d *Drain, s *Stream) time.Duration {
	stops := max(d.Schedule.Base, d.Schedule.Floor) == 0 || slices.ContainsFunc(d.Schedule.Entries, func(e Entry) bool { return e.Rate == 0 })
	if s == nil || !stops {
		return forever
	}
	if d.Deadline.MaxDelay > 0 && d.Deadline.OnExpire != EndDeliver {
		return min(s.Retention, d.Deadline.MaxDelay)
	}
	return s.Retention
}

// whyNever is the hint for an entry that never holds.
func (c *checker) whyNever(d *Drain, e Entry) string {
	for _, iv := range e.During {
		at := c.now
		if !iv.Active(at) {
			at = iv.NextChange(at)
		}
		if at.IsZero() {
			continue
		}
		if w := d.Schedule.At(at); w.Because != base {
			return fmt.Sprintf("entry %s comes first whenever it could: put this one before it", quote(w.Because))
		}
		return "one of its exceptions always holds"
	}
	return "its time intervals do not come in that time: are their dates in the past?"
}
