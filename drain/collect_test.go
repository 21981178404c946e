package drain

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"forebay/limiter"
	"forebay/policies"
)

// filer gathers messages in memory, and delivers them when there are many or when it
// is told to.
type filer struct {
	*fakeSink
	full int // messages of a file, at least
	// How long a take lasts, getting ready, and what comes before Begin.
	takes, readies, asks time.Duration

	mu       sync.Mutex
	ready    int             // guarded by mu; messages that were made ready to be written
	open     []uint64        // guarded by mu; offsets
	order    []uint64        // guarded by mu; all that is in files, as it lies there
	settled  []func(Outcome) // guarded by mu
	files    []string        // guarded by mu; those that are finished
	broken   Outcome         // guarded by mu; what the next write comes to, unless it is zero
	finished []Range         // guarded by mu; as of before the start
	unknown  int             // guarded by mu; how often that cannot be said
	asked    int             // guarded by mu
	place    string          // guarded by mu
	others   []string        // guarded by mu; that Finished was told of last
}

// Place implements Collector.
func (c *filer) Place() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.place
}

// Collect implements Collector.
func (c *filer) Collect(_ string, msgs []Delivery) func(context.Context, func(Outcome)) {
	time.Sleep(c.readies)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ready += len(msgs)
	for i := range msgs {
		msgs[i].ID = fmt.Sprint(msgs[i].Offset) // what seen tells them by
	}
	return func(ctx context.Context, settled func(Outcome)) { c.write(ctx, msgs, settled) }
}

func (c *filer) write(ctx context.Context, msgs []Delivery, settled func(Outcome)) {
	time.Sleep(c.asks)
	if Begin(ctx) != nil {
		settled(Outcome{Unsent: true})
		return
	}
	c.begin(msgs)
	defer c.end()
	time.Sleep(c.lasts())
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken.Error != "" {
		earlier := c.broken
		earlier.RetryAfter = 0
		for _, s := range c.settled {
			s(earlier)
		}
		settled(c.broken)
		c.open, c.settled, c.broken = nil, nil, Outcome{}
		return
	}
	for _, m := range msgs {
		c.open = append(c.open, m.Offset)
	}
	c.settled = append(c.settled, settled)
	if len(c.open) >= c.full {
		c.roll()
	}
}

func (c *filer) roll() {
	if len(c.open) == 0 {
		return
	}
	c.order = append(c.order, c.open...)
	c.files = append(c.files, fmt.Sprintf("%d-%d", c.open[0], c.open[len(c.open)-1]))
	for _, s := range c.settled {
		s(Outcome{Class: Success})
	}
	c.open, c.settled = nil, nil
}

// Together implements Collector: messages whose offsets have the same hundreds.
func (c *filer) Together(msgs []Delivery) int {
	time.Sleep(c.takes)
	n := 1
	for n < len(msgs) && msgs[n].Offset/100 == msgs[0].Offset/100 {
		n++
	}
	return n
}

// Finish implements Collector.
func (c *filer) Finish(string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.roll()
}

// Finished implements Collector.
func (c *filer) Finished(_ context.Context, _ string, _ time.Time, others []string) ([]Range, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.others = others
	if c.asked++; c.asked <= c.unknown {
		return nil, errors.New("safe mode")
	}
	return c.finished, nil
}

func (c *filer) names() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.files, " ")
}

// inFiles runs a test with a sink that makes files of so many messages, of batches of 10.
func inFiles(t *testing.T, full int, schedule policies.Schedule, test func(b *bench, c *filer)) {
	t.Helper()
	inBubble(t, []string{"d"}, func(b *bench) {
		s := b.sinks["service"]
		s.batch = Batch{Messages: 10, Wait: time.Second}
		c := &filer{fakeSink: s, full: full}
		b.wrap = func(*fakeSink) Sink { return c }
		budget := wide()
		b.apply(set(schedule, budget))
		test(b, c)
	})
}

// Messages are delivered when their file is, in order, and one batch after the other.
func TestCollect(t *testing.T) {
	inFiles(t, 40, base(limiter.Unlimited), func(b *bench, c *filer) {
		c.slow(100 * time.Millisecond)
		b.fill(95)
		b.pass(350 * time.Millisecond)
		b.wantDelivered("d", 0)
		b.pass(10 * time.Second)
		b.wantDelivered("d", 80)
		if diff := cmp.Diff("0-39 40-79", c.names()); diff != "" {
			t.Errorf("files (-want +got):\n%s", diff)
		}
		if got := b.stats("d"); got.InFlight != 15 || c.atOnce() != 1 {
			t.Errorf("%d gathered, %d batches at once, want 15 and 1", got.InFlight, c.atOnce())
		}
		if st, _ := b.drains.SinkStatus(time.Now(), "service"); st.InFlight != 0 {
			t.Errorf("%d slots in use while nothing is written", st.InFlight)
		}
	})
}

// While a batch is written the next is got ready, and no more.
func TestCollectGetsReady(t *testing.T) {
	inFiles(t, 40, base(limiter.Unlimited), func(b *bench, c *filer) {
		c.slow(10 * time.Second)
		b.fill(95)
		ready := func(want int) {
			t.Helper()
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.ready != want {
				t.Errorf("%d messages are ready or written, want %d", c.ready, want)
			}
		}
		b.pass(5 * time.Second)
		ready(20)
		b.pass(10 * time.Second)
		ready(30)
		if c.atOnce() != 1 {
			t.Errorf("%d batches were written at once", c.atOnce())
		}
	})
}

// What is ready when the batch before it fails goes back with it, and comes behind it
// again.
func TestCollectKeepsTurns(t *testing.T) {
	inFiles(t, 1000, base(limiter.Unlimited), func(b *bench, c *filer) {
		c.slow(8 * time.Second)
		b.fill(95)
		b.pass(12 * time.Second) // the first is written, the second is being written, the third ready
		c.mu.Lock()
		c.broken = Outcome{Class: Retry, Error: "lease"} // and it asks for no rest
		c.mu.Unlock()
		b.pass(10 * time.Minute)
		b.stop()
		b.wantDelivered("d", 95)
		c.mu.Lock()
		defer c.mu.Unlock()
		if !slices.IsSorted(c.order) {
			t.Errorf("files hold %v", c.order)
		}
		b.start(Config{})
	})
}

// The end of a window, a pause and a stop finish what has gathered.
func TestCollectFinishes(t *testing.T) {
	inFiles(t, 1000, nightly(t), func(b *bench, c *filer) {
		b.pass(time.Hour) // 01:00
		b.fill(25)
		b.pass(5*time.Hour + 29*time.Minute)
		b.wantDelivered("d", 0)
		b.pass(time.Minute) // 06:30
		b.wantDelivered("d", 25)
		b.pass(18 * time.Hour) // 00:30
		b.fill(5)
		b.pass(time.Minute)
		b.must(b.drains.Pause("d", time.Time{}, "INC-1"))
		b.pass(0)
		b.wantDelivered("d", 30)
		b.must(b.drains.Resume("d"))
		b.fill(3)
		b.pass(time.Minute)
		b.wantDelivered("d", 30)
		b.stop()
		b.wantDelivered("d", 33)
		if got := c.names(); got != "0-24 25-29 30-32" {
			t.Errorf("files: %s", got)
		}
		b.start(Config{})
	})
}

// What fails goes back to its place, and is not sent before the sink has rested.
func TestCollectFails(t *testing.T) {
	inFiles(t, 40, base(limiter.Unlimited), func(b *bench, c *filer) {
		b.fill(20)
		b.pass(0)
		c.mu.Lock()
		c.broken = Outcome{Class: Retry, Error: "lease", RetryAfter: 20 * time.Second}
		c.mu.Unlock()
		b.fill(10)
		b.pass(19 * time.Second)
		if w, _ := b.drains.Why(time.Now(), "d"); !strings.Contains(showWhy(w, time.Now()), "nothing is sent for 20s: lease") {
			t.Errorf("why: %s", showWhy(w, time.Now()))
		}
		if got := b.stats("d"); got.Pending != 30 || got.Scheduled != 0 || got.InFlight != 0 {
			t.Errorf("after a failure: %+v, want all 30 waiting in their places", got)
		}
		b.fill(10)
		b.pass(2 * time.Second)
		b.wantDelivered("d", 40)
		if got := c.names(); got != "0-39" {
			t.Errorf("files: %s", got)
		}
	})
}

// A file that is given up is one failure, however many batches it holds.
func TestCollectFailsOnce(t *testing.T) {
	inFiles(t, 1000, base(limiter.Unlimited), func(b *bench, c *filer) {
		p := set(base(limiter.Unlimited), wide())
		p.Sinks[0].Breaker = policies.Breaker{FailureRatio: 0.5, MinRequests: 4, Window: time.Minute, OpenFor: time.Hour}
		b.apply(p)
		b.fill(50)
		b.pass(2 * time.Second)
		c.mu.Lock()
		c.broken = Outcome{Class: Retry, Error: "lease", RetryAfter: time.Second}
		c.mu.Unlock()
		b.fill(10)
		b.pass(10 * time.Second)
		if st, _ := b.drains.SinkStatus(time.Now(), "service"); st.Breaker != BreakerClosed {
			t.Errorf("the breaker is %v", st.Breaker)
		}
		if got := b.stats("d"); got.InFlight != 60 {
			t.Errorf("%d gathered again, want all 60", got.InFlight)
		}
	})
}

// A drain that gets another sink finishes what the one before has gathered, also what is
// handed to it meanwhile.
func TestCollectSinkChanges(t *testing.T) {
	inFiles(t, 1000, base(limiter.Unlimited), func(b *bench, c *filer) {
		b.wrap = func(s *fakeSink) Sink {
			if s == c.fakeSink {
				return c
			}
			return s
		}
		moved := set(base(limiter.Unlimited), wide())
		moved.Sinks = append(moved.Sinks, policies.Sink{Name: "other", Budget: wide()})
		b.fill(15)
		b.pass(2 * time.Second)
		c.slow(10 * time.Second)
		b.fill(7)
		b.pass(2 * time.Second)
		moved.Drains[0].Sink = "other"
		b.apply(moved)
		b.wantDelivered("d", 15)
		b.pass(10 * time.Second)
		b.wantDelivered("d", 22)
		if got := c.names(); got != "0-14 15-21" {
			t.Errorf("files: %s", got)
		}
	})
}

// Of a sink's bytes a second nothing is lost to what each addition costs.
func TestCollectBytes(t *testing.T) {
	for what, rate := range map[string]int64{"less than a batch in a second": 40_000, "many batches in a second": 400_000} {
		t.Run(what, func(t *testing.T) {
			inBubble(t, []string{"d"}, func(b *bench) {
				s := b.sinks["service"]
				s.batch = Batch{Messages: 1000, Bytes: 100_000, Wait: time.Second}
				c := &filer{fakeSink: s, full: 1}
				b.wrap = func(*fakeSink) Sink { return c }
				b.apply(set(base(limiter.Unlimited), bytesAlone(rate)))
				c.slow(100 * time.Millisecond)
				b.bodies(repeat(10_000, 1000)...)
				b.pass(20 * time.Second)
				if got, want := float64(b.stats("d").Delivered), float64(20*rate/1000); got < 0.95*want || got > want+float64(rate/1000) {
					t.Errorf("%v delivered in 20 s, want %v", got, want)
				}
			})
		})
	}
}

// What was delivered before a crash and not recorded is not sent again. Nothing is sent
// before that is known.
func TestCollectRecalls(t *testing.T) {
	inBubble(t, []string{"d"}, func(b *bench) {
		s := b.sinks["service"]
		s.batch = Batch{Messages: 10, Wait: time.Second}
		c := &filer{fakeSink: s, full: 10, unknown: 3, finished: []Range{{50, 59}, {5, 24}, {1000, 1010}}}
		b.wrap = func(*fakeSink) Sink { return c }
		b.fill(60)
		b.apply(set(base(limiter.Unlimited), wide()))
		b.pass(6 * time.Second)
		if n := len(s.seen()); n != 0 {
			t.Errorf("%d messages sent before it was known what is finished", n)
		}
		b.pass(20 * time.Second)
		b.wantDelivered("d", 60)
		var again []string
		for id := range s.seen() {
			again = append(again, id)
		}
		if n := len(again); n != 30 {
			t.Errorf("%d messages sent, want the 30 that were not: %v", n, again)
		}
	})
}

// A start looks wherever messages may have gathered since the one before.
func TestCollectRecallsPlaces(t *testing.T) {
	inFiles(t, 10, base(limiter.Unlimited), func(b *bench, c *filer) {
		policy := set(base(limiter.Unlimited), wide())
		gather := func(place string) {
			c.mu.Lock()
			c.place = place
			c.mu.Unlock()
			b.apply(policy)
			b.fill(10)
			b.pass(time.Second)
		}
		want := func(others ...string) {
			t.Helper()
			b.restart(policy)
			b.pass(time.Second)
			c.mu.Lock()
			defer c.mu.Unlock()
			if !slices.Equal(c.others, others) {
				t.Errorf("a start looks in %q too, want %q", c.others, others)
			}
		}
		gather("/a")
		gather("/b")
		gather("/c")
		gather("/b")
		want("", "/a", "/c", "/b")
		want("/b")
		for i := range 20 {
			gather(fmt.Sprint("/", i))
		}
		want("/12", "/13", "/14", "/15", "/16", "/17", "/18", "/19")
		long := strings.Repeat("x", 400)
		gather("/" + long)
		gather("/a" + long)
		gather("/b" + long)
		want("/a"+long, "/b"+long) // as many as fit into a note
	})
}

// Only what may gather in one place is handed over together.
func TestCollectTogether(t *testing.T) {
	inFiles(t, 1000, base(limiter.Unlimited), func(b *bench, c *filer) {
		c.batch = Batch{Messages: 60}
		b.apply(set(base(limiter.Unlimited), wide()))
		b.fill(230)
		b.pass(time.Second)
		b.stop()
		b.wantDelivered("d", 230)
		if diff := cmp.Diff([]int{60, 40, 60, 40, 30}, c.batches()); diff != "" {
			t.Errorf("batches (-want +got):\n%s", diff)
		}
		b.start(Config{})
	})
}

func TestKnown(t *testing.T) {
	k := known{ranges: []Range{{5, 7}, {9, 9}, {20, 30}}}
	var got []uint64
	for offset := range uint64(40) {
		if k.has(offset) {
			got = append(got, offset)
		}
	}
	want := []uint64{5, 6, 7, 9, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30}
	if !slices.Equal(got, want) {
		t.Errorf("known: %v, want %v", got, want)
	}
}

// What was taken before a batch was refused goes back before anything else is taken, and
// is written in its order, once.
func TestCollectAfterARefusal(t *testing.T) {
	for _, takes := range []time.Duration{0, 20 * time.Millisecond} { // the refusal comes after a take, and amid one
		inFiles(t, 10, stepAtHalfPast(t), func(b *bench, c *filer) {
			c.slow(time.Second)
			c.takes, c.readies, c.asks = takes, 50*time.Millisecond, 5*time.Millisecond
			b.pass(29*time.Minute + 50*time.Second + 300*time.Millisecond)
			b.fill(200)
			b.pass(10 * time.Minute) // over the edge of the window, where what was taken before it is refused
			c.mu.Lock()
			defer c.mu.Unlock()
			if len(c.order) != 200 || !slices.IsSorted(c.order) {
				t.Errorf("takes last %v: files %v, want all of 200 in order", takes, c.files)
			}
			if c.ready < 210 || c.ready > 240 {
				t.Errorf("takes last %v: %d messages were made ready, want a batch or two of ten more than once", takes, c.ready)
			}
		})
	}
}

// stepAtHalfPast has another rate from 00:30 on, and is never closed.
func stepAtHalfPast(t *testing.T) policies.Schedule {
	t.Helper()
	set, errs := policies.Parse([]policies.File{{Name: "p.yaml", Data: []byte(`
version: 1
time_intervals:
  - name: night
    intervals: [{ times: [{ start_time: "00:30", end_time: "06:30" }], location: UTC }]
streams: [{ name: orders }]
sinks: [{ name: service, http: { urls: ["http://service"] } }]
drains:
  - name: d
    stream: orders
    sink: service
    schedule: { base: 100000/s, entries: [{ name: night, during: [night], rate: 200000/s }] }
`)}})
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	return set.Drains[0].Schedule
}
