package drain

import (
	"math"
	"slices"
	"time"

	"forebay/limiter"
	"forebay/policies"
)

// crowd is who takes from a sink's budget beside one drain, as a fluid: what they leave
// it. Slots are no part of it. The zero value is nobody. A drain's share of tokens and
// bytes is reckoned here alone.
type crowd struct {
	live      float64 // requests a second that come live
	most      float64 // their part of the rate, at most, while drains wait
	bytes     float64 // of bodies a second that are for drains; 0: no bound
	mine      party
	others    []party
	remainder limiter.Rate // what the others leave
}

// party is a drain that has something to send.
type party struct {
	weight, size float64                         // size: mean bytes of its bodies; 0: not known
	left         float64                         // messages that wait
	comes        float64                         // a second that come in
	most         float64                         // a second; of its schedule
	at           func(time.Time) policies.Window // its schedule; nil: it stays as it is
	window       policies.Window

	rate float64 // that it has
}

// nobody reports whether there is all of the budget for the drain.
func (c *crowd) nobody() bool { return c.live == 0 && c.bytes == 0 && len(c.others) == 0 }

// contend reckons what everybody has from t on while the drain could go at a rate and
// the sink takes so many a second, and returns until when that holds, at most until.
func (c *crowd) contend(t, until time.Time, rate, whole limiter.Rate) time.Time {
	c.mine.rate = float64(rate)
	all := []*party{&c.mine}
	for i := range c.others {
		p := &c.others[i]
		until = p.turn(t, until)
		if p.rate = p.most; p.left == 0 {
			p.rate = min(p.most, p.comes)
		}
		if p.rate > 0 {
			all = append(all, p)
		}
	}
	tokens := float64(whole)
	tokens -= min(c.live, c.most*tokens)
	fill(all, tokens, func(p *party) (float64, float64) { return p.weight, 1 })
	bytes := c.bytes
	if bytes > 0 {
		fill(all, bytes, func(p *party) (float64, float64) { return 1, p.size })
	}
	for _, p := range all[1:] {
		tokens -= p.rate
		bytes -= p.rate * p.size
		if empty := p.left / (p.rate - p.comes); empty > 0 && empty < until.Sub(t).Seconds() {
			until = t.Add(max(time.Millisecond, time.Duration(math.Ceil(empty*float64(time.Second)))))
		}
	}
	if c.bytes > 0 && c.mine.size > 0 {
		tokens = min(tokens, bytes/c.mine.size)
	}
	c.remainder = limiter.Rate(max(0, tokens))
	return until
}

// turn moves a party to the window that t lies in, and returns until when its rate is one,
// at most until.
func (p *party) turn(t, until time.Time) time.Time {
	if p.at == nil {
		return until
	}
	if past(p.window.Until, t) {
		p.window = p.at(t)
	}
	_, end := p.window.Step(t, coarse)
	until = sooner(until, end)
	p.most = float64(p.window.Mean(t, until))
	return until
}

// pass takes off what the others had in a time, and adds what came.
func (c *crowd) pass(lasts time.Duration) {
	for i := range c.others {
		p := &c.others[i]
		if p.left += (p.comes - p.rate) * lasts.Seconds(); p.left < 1e-3 {
			p.left = 0
		}
	}
}

// fill lowers the rates of parties until together they cost no more than there is: to the
// same for all whose rate is above it, over their weights.
func fill(all []*party, capacity float64, of func(*party) (weight, cost float64)) {
	if math.IsInf(capacity, 1) {
		return
	}
	content := make([]bool, len(all))
	for {
		sum := 0.0
		for i, p := range all {
			if w, cost := of(p); !content[i] {
				sum += w * cost
			}
		}
		if sum == 0 {
			return
		}
		level, more := max(0, capacity)/sum, false
		for i, p := range all {
			if w, cost := of(p); !content[i] && p.rate <= w*level {
				content[i], more = true, true
				capacity -= p.rate * cost
			}
		}
		if more {
			continue
		}
		for i, p := range all {
			if w, cost := of(p); !content[i] && cost > 0 {
				p.rate = w * level
			}
		}
		return
	}
}

// clone is one to go through apart.
func (c *crowd) clone() crowd {
	again := *c
	again.others = slices.Clone(c.others)
	return again
}
