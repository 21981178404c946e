package drain

import (
	"fmt"
	"math"
	"time"

	"forebay/limiter"
	"forebay/policies"
)

const (
	// lagKnown is how long a reading holds when there is no newer one. After that the
	// lag is taken to be over its bound: what waits is safe, and the bound is there for
	// those who cannot take more.
	lagKnown = 30 * time.Second
	// lagWanted is how long it matters after something was last to be sent.
	lagWanted = 5 * time.Second
	// caughtUp is the share of the bound at which feeding goes on.
	caughtUp = 0.8
)

// lag is how far a consumer group behind the sink lags. It is pure: the time is an
// argument. The zero value holds nothing back.
type lag struct {
	bound policies.ConsumerLag // of no messages: there is none

	behind  int64     // at the last reading
	at      time.Time // of the last reading; zero: there was none
	high    bool      // it was over the bound, and has not fallen far enough since
	trouble string    // why there was no reading since; empty: nothing is wrong

	wanted time.Time // when something was last to be sent
	waits  bool      // something was held back, and is until a reading lets it go
}

// set changes the bound. What was read of another group says nothing.
func (l *lag) set(k *policies.KafkaSink) {
	var bound policies.ConsumerLag
	if k != nil && k.MaxConsumerLag != nil {
		bound = *k.MaxConsumerLag
	}
	if bound.Group != l.bound.Group {
		*l = lag{waits: l.waits && bound.Messages > 0}
	}
	l.bound = bound
	l.high = l.high && l.behind > l.low()
}

// low is where feeding goes on.
func (l *lag) low() int64 { return int64(float64(l.bound.Messages) * caughtUp) }

// known reports whether the last reading still says something.
func (l *lag) known(now time.Time) bool { return !l.at.IsZero() && now.Sub(l.at) < lagKnown }

// holds reports whether nothing is to be sent.
func (l *lag) holds(now time.Time) bool {
	return l.bound.Messages > 0 && (l.high || !l.known(now))
}

// stuck reports whether that holds something back, for nobody knows how long.
func (l *lag) stuck(now time.Time) bool { return l.waits && l.holds(now) }

// asked takes note that something is to be sent, and reports whether that makes a
// reading worth while that nobody was about to make.
func (l *lag) asked(now time.Time) (wake bool) {
	if l.bound.Messages == 0 {
		return false
	}
	wake = !l.matters(now) || l.holds(now) && !l.waits
	l.wanted, l.waits = now, l.holds(now)
	return wake
}

// matters reports whether it is worth reading.
func (l *lag) matters(now time.Time) bool {
	return l.bound.Messages > 0 && (l.waits || !l.wanted.IsZero() && now.Sub(l.wanted) < lagWanted)
}

// read takes note of a reading, and reports whether that holds something back or lets
// it go on.
func (l *lag) read(now time.Time, behind int64) (changed bool) {
	was, waited := l.high, l.waits
	l.behind, l.at, l.trouble = behind, now, ""
	l.high = behind >= int64(l.bound.Messages) || was && behind > l.low()
	l.waits = waited && l.high
	return l.high != was || l.waits != waited
}

// failed takes note that there was no reading.
func (l *lag) failed(why string) { l.trouble = why }

// term is what it leaves; false: there is no bound.
func (l *lag) term(now time.Time) (Term, bool) {
	if l.bound.Messages == 0 {
		return Term{}, false
	}
	t := Term{Name: KafkaLag, Rate: limiter.Unlimited}
	if l.stuck(now) || l.high {
		t.Rate = 0
	}
	group := fmt.Sprintf("group %s", l.bound.Group)
	switch {
	case !l.known(now) && l.trouble == "":
		t.Detail = group + ": its lag is not known yet"
	case !l.known(now):
		t.Detail = fmt.Sprintf("%s: its lag cannot be read, so that it may be over %d: %s", group, l.bound.Messages, l.trouble)
	case l.high:
		t.Detail = fmt.Sprintf("%s is %d messages behind, of at most %d; goes on at %d", group, l.behind, l.bound.Messages, l.low())
	default:
		t.Detail = fmt.Sprintf("%s is %d messages behind, of at most %d", group, l.behind, l.bound.Messages)
	}
	if l.known(now) && l.trouble != "" {
		t.Detail += fmt.Sprintf("; as of %s ago: %s", now.Sub(l.at).Round(time.Second), l.trouble)
	}
	return t, true
}

// Lag is how far the consumers behind a sink are behind.
type Lag struct {
	Group  string
	Most   int   // that they may be
	Behind int64 // at the last reading
	At     time.Time
	Holds  bool   // nothing is sent
	Error  string // why there was no reading since; empty: nothing is wrong
}

// status is nil where there is no bound.
func (l *lag) status(now time.Time) *Lag {
	if l.bound.Messages == 0 {
		return nil
	}
	return &Lag{
		Group: l.bound.Group, Most: l.bound.Messages, Behind: l.behind, At: l.at,
		Holds: l.high || l.stuck(now), Error: l.trouble,
	}
}

// value is that of the metric.
func (l *lag) value(now time.Time) float64 {
	if !l.known(now) {
		return math.NaN()
	}
	return float64(l.behind)
}
