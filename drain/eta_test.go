package drain

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"forebay/policies"
)

// What is predicted is what is done, over closed hours too.
func TestETAMatchesTheLoop(t *testing.T) {
	for _, n := range []int{1, 100, 7_500, 15_000} {
		inBubble(t, []string{"d"}, func(b *bench) {
			schedule := nightly(t)
			schedule.Entries[0].Rate = 0.5
			b.apply(set(schedule, wide()))
			b.fill(n)
			b.pass(17 * time.Minute)
			now := time.Now()
			eta, p90, note := b.drains.ETA("d", now, time.Time{}, uint64(n-1))
			if note != "" {
				t.Fatalf("note = %q", note)
			}
			b.pass(48 * time.Hour)
			b.wantDelivered("d", uint64(n))
			times := b.sinks["service"].began(now)
			left := times[len(times)-1]
			if off := left.Sub(eta).Abs(); off > time.Second {
				t.Errorf("message %d left at %v, eta was %v", n, left, eta)
			}
			if wait := eta.Sub(now); p90.Sub(eta) != max(time.Second, wait*15/100) {
				t.Errorf("p90 is %v after an eta %v ahead", p90.Sub(eta), wait)
			}
		})
	}
}

// The last message leaves when it is due again, or when the window after that
// opens, and the drain is empty then.
func TestEmptyAtWaitsForRetries(t *testing.T) {
	for _, tt := range []struct {
		initial time.Duration
		want    string
	}{{time.Hour, "2000-01-01 01:30"}, {7 * time.Hour, "2000-01-02 00:30"}} {
		inBubble(t, []string{"d"}, func(b *bench) {
			b.drains.cfg.Random = func(n int64) int64 { return n - 1 } // no jitter
			b.sinks["service"].answer = func(m Delivery) Outcome {
				if m.Tries.Attempts == 0 && m.Offset == 3 {
					return Outcome{Status: 500, Error: "status 500"}
				}
				return Outcome{Class: Success, Status: 200}
			}
			policy := set(nightly(t), wide())
			policy.Drains[0].Retry.Initial, policy.Drains[0].Retry.Max = tt.initial, tt.initial
			b.apply(policy)
			b.fill(5)
			b.pass(45 * time.Minute)
			got := b.drains.Status(time.Now())[0].EmptyAt
			if at := got.UTC().Format("2006-01-02 15:04"); at != tt.want {
				t.Errorf("with a retry after %v empty at %s, want %s", tt.initial, at, tt.want)
			}
			b.pass(time.Until(got) - time.Second)
			b.wantDelivered("d", 4)
			b.pass(2 * time.Second)
			b.wantDelivered("d", 5)
		})
	}
}

// The etas that 20 callers got are within a tenth of their wait, or a second,
// through a closed window, under arrivals and with a sink that fails now and then.
func TestETAReach(t *testing.T) {
	inBubble(t, []string{"d"}, func(b *bench) {
		arrivals, failures := rand.New(rand.NewPCG(5, 6)), rand.New(rand.NewPCG(7, 8))
		var mu sync.Mutex
		left := make(map[uint64]time.Time)
		b.sinks["service"].answer = func(m Delivery) Outcome {
			mu.Lock()
			defer mu.Unlock()
			if m.Tries.Attempts == 0 {
				left[m.Offset] = time.Now()
			}
			if failures.IntN(100) < 5 {
				return Outcome{Status: 503, Error: "status 503"}
			}
			return Outcome{Class: Success, Status: 200}
		}
		schedule := nightly(t)
		schedule.Entries[0].Rate = 20
		b.apply(set(schedule, policies.Budget{Limit: limit(15, 5), Concurrency: 8}))
		type receipt struct {
			offset  uint64
			at, eta time.Time
		}
		var receipts []receipt
		b.fill(9_000)
		for range 20 {
			b.fill(1 + arrivals.IntN(2_000))
			r := receipt{offset: b.buf.Stats().Streams[0].Accepted - 1, at: time.Now()}
			stands, _ := b.buf.Standing("d", r.offset)
			r.eta, _, _ = b.drains.ETA("d", r.at, time.Time{}, stands.Ahead)
			receipts = append(receipts, r)
			b.pass(time.Duration(arrivals.IntN(8)) * time.Minute)
		}
		b.pass(24 * time.Hour)
		mu.Lock()
		defer mu.Unlock()
		for i, r := range receipts {
			off, wait := left[r.offset].Sub(r.eta), left[r.offset].Sub(r.at)
			if off.Abs() > max(time.Second, wait/10) {
				t.Errorf("receipt %d left after %v, %v off its eta", i, wait, off)
			}
		}
	})
}

func TestETAWithoutRate(t *testing.T) {
	inBubble(t, []string{"d"}, func(b *bench) {
		b.apply(set(base(0), wide()))
		for drain, want := range map[string]string{"d": "no rate in sight", "x": "no such drain"} {
			eta, p90, note := b.drains.ETA(drain, time.Now(), time.Time{}, 0)
			if !eta.IsZero() || !p90.IsZero() || note != want {
				t.Errorf("ETA of %s = %v, %v, %q; want %q", drain, eta, p90, note, want)
			}
		}
	})
}

// TestETAOfARetry: a retry that is due while the window is closed waits for the next.
func TestETAOfARetry(t *testing.T) {
	closed, faults := policies.Parse([]policies.File{{Name: "policy.yaml", Data: []byte(`version: 1
time_intervals: [{ name: closed, intervals: [{ times: [{ start_time: "01:00", end_time: "02:00" }] }] }]
sinks: [{ name: service, http: { urls: ["http://service.internal"] } }]
streams: [{ name: orders }]
drains:
  - { name: d, stream: orders, sink: service, schedule: { base: 1/s, entries: [{ name: closed, during: [closed], rate: 0 }] } }
`)}})
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	inBubble(t, []string{"d"}, func(b *bench) { // from midnight on
		b.apply(closed)
		now := time.Now()
		for due, want := range map[time.Duration]time.Duration{
			0: time.Second, 30 * time.Minute: 30 * time.Minute, 90 * time.Minute: 2 * time.Hour, 3 * time.Hour: 3 * time.Hour,
		} {
			eta, _, note := b.drains.ETA("d", now, now.Add(due), 0)
			if off := eta.Sub(now.Add(want)); note != "" || off.Abs() > time.Second {
				t.Errorf("due after %v: eta after %v, %q; want %v", due, eta.Sub(now), note, want)
			}
		}
	})
}
