package drain

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"forebay/policies"
)

// consumers are a group behind a sink.
type consumers struct {
	*fakeSink
	consumed atomic.Int64
	broken   atomic.Bool
	readings atomic.Int64
	takes    atomic.Int64 // nanoseconds that a reading lasts
}

// ConsumerLag is what watchLags asks.
func (c *consumers) ConsumerLag(ctx context.Context) (int64, error) {
	c.readings.Add(1)
	select {
	case <-time.After(time.Duration(c.takes.Load())):
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	if c.broken.Load() {
		return 0, errors.New("no coordinator")
	}
	return int64(len(c.began(time.Time{}))) - c.consumed.Load(), nil
}

// lagBench has a drain of 100/s to a sink whose consumers may be 500 behind.
func lagBench(t *testing.T, test func(b *bench, c *consumers)) {
	t.Helper()
	inBubble(t, []string{"d"}, func(b *bench) {
		c := &consumers{fakeSink: b.sinks["service"]}
		b.newSink = func(policies.Sink) (Sink, error) { return c, nil }
		p := set(base(100), wide())
		p.Sinks[0].Kafka = lagOf(500)
		b.apply(p)
		test(b, c)
	})
}

// A group that stops stops the feeding within two seconds of the bound; it goes on as
// the group catches up.
func TestConsumersStop(t *testing.T) {
	lagBench(t, func(b *bench, c *consumers) {
		b.fill(3000)
		b.pass(time.Second)
		b.pass(20 * time.Second)
		sent := int64(len(c.began(time.Time{})))
		if sent < 500 || sent > 500+2*100 {
			t.Errorf("%d were sent to a group that may be 500 behind, at 100/s", sent)
		}
		status := b.drains.Status(time.Now())[0]
		if status.Binding != KafkaLag || status.Permitted != 0 || status.State != Blocked || !status.EmptyAt.IsZero() {
			t.Errorf("status %+v", status)
		}
		w, _ := b.drains.Why(time.Now(), "d")
		if !slices.ContainsFunc(w.Constraints, func(t Term) bool { return t.Name == KafkaLag && t.Rate == 0 }) {
			t.Errorf("why %+v", w)
		}
		if _, _, note := b.drains.ETA("d", time.Now(), time.Time{}, 0); note != "consumers behind the sink lag" {
			t.Errorf("no eta because %q", note)
		}
		if st, _ := b.drains.SinkStatus(time.Now(), "service"); st.Lag == nil || !st.Lag.Holds || st.Lag.Behind != sent || st.Lag.Most != 500 {
			t.Errorf("sink %+v", st.Lag)
		}
		c.consumed.Store(sent - 401) // not far enough
		b.pass(5 * time.Second)
		if n := int64(len(c.began(time.Time{}))); n != sent {
			t.Errorf("%d were sent to a group that is 401 behind, and had been over 500", n-sent)
		}
		from := time.Now()
		c.consumed.Store(sent - 100)
		b.pass(2 * time.Second)
		times := c.began(from)
		if len(times) == 0 || times[0].Sub(from) > lagEvery {
			t.Fatalf("%d were sent within 2 s of the group's catching up", len(times))
		}
		b.wantInside(times, 100, 1)
		if got := c.readings.Load(); got > 35 {
			t.Errorf("the lag was read %d times in 28 s", got)
		}
	})
}

// Who has nothing to send does not ask, and asks first when he has.
func TestLagIsNotReadForNothing(t *testing.T) {
	lagBench(t, func(b *bench, c *consumers) {
		b.pass(time.Minute) // at the start nobody knows that there is nothing
		before := c.readings.Load()
		if b.pass(time.Hour); c.readings.Load() != before {
			t.Errorf("the lag was read %d times", c.readings.Load()-before)
		}
		for range 3 {
			from, before := time.Now(), c.readings.Load()
			b.fill(10)
			b.pass(time.Second)
			if got := len(c.began(from)); got != 10 {
				t.Errorf("%d of 10 were sent within a second", got)
			}
			b.pass(time.Hour)
			if got := c.readings.Load() - before; got < 1 || got > 10 {
				t.Errorf("the lag was read %d times for ten messages", got)
			}
		}
	})
}

// A lag that cannot be read holds nothing back for 30 s; then it does.
func TestLagCannotBeRead(t *testing.T) {
	lagBench(t, func(b *bench, c *consumers) {
		c.consumed.Store(1 << 30)
		b.fill(10_000)
		b.pass(10 * time.Second)
		c.broken.Store(true)
		from := time.Now()
		b.pass(time.Minute)
		if n := len(c.began(from)); n < 28*100 || n > 31*100 {
			t.Errorf("%d were sent at 100/s since the lag cannot be read, want those of 30 s", n)
		}
		if got := b.drains.Status(time.Now())[0].Binding; got != KafkaLag {
			t.Errorf("%s binds", got)
		}
		c.broken.Store(false)
		from = time.Now()
		b.pass(3 * time.Second)
		if n := len(c.began(from)); n < 150 {
			t.Errorf("%d were sent in 3 s since the lag can be read again", n)
		}
		// A reading that hangs ends by itself, and is not made twice at once.
		c.takes.Store(int64(time.Hour))
		before := c.readings.Load()
		b.pass(lagKnown + time.Minute)
		if n := c.readings.Load() - before; n > 20 {
			t.Errorf("%d readings of 5 s each in 90 s", n)
		}
	})
}
