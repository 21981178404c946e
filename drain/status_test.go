package drain

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"forebay/limiter"
	"forebay/policies"
)

func TestStatus(t *testing.T) {
	wait := func(d time.Duration) func(b *bench) { return func(b *bench) { b.pass(d) } }
	tests := []struct {
		name     string
		schedule policies.Schedule
		budget   policies.Budget
		fill     int
		then     func(b *bench)
		want     Status // times relative to the zero time
	}{
		{
			"idle", base(10), wide(), 0, wait(time.Second),
			Status{State: Idle, Permitted: 10, Binding: Empty},
		},
		{
			"running at the schedule's rate", base(10), wide(), 1000, wait(60 * time.Second),
			Status{State: Running, Permitted: 10, Actual: 10, Binding: Schedule, Waiting: 400},
		},
		{
			"running at the sink's rate", base(10),
			policies.Budget{Limit: limit(5, 1), Concurrency: 2},
			1000, wait(60 * time.Second),
			Status{State: Running, Permitted: 5, Actual: 5, Binding: SinkBudget, Waiting: 700},
		},
		{
			"blocked by the schedule", base(0), wide(), 7, wait(60 * time.Second),
			Status{State: Blocked, Binding: Schedule, Waiting: 7},
		},
		{
			"blocked by the sink's rate", base(5),
			policies.Budget{Limit: limit(0, 1), Concurrency: 2},
			7, wait(60 * time.Second),
			Status{State: Blocked, Binding: SinkBudget, Waiting: 7},
		},
		{
			"unlimited and empty", base(limiter.Unlimited), wide(), 3, wait(10 * time.Second),
			Status{State: Idle, Permitted: limiter.Unlimited, Binding: Empty},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, []string{"d"}, func(b *bench) {
				b.apply(set(tt.schedule, tt.budget))
				b.fill(tt.fill)
				tt.then(b)
				now := time.Now()
				got := b.drains.Status(now)[0]
				rate := min(got.Permitted, 1e6)
				wantEmpty := now.Add(time.Duration(float64(got.Waiting) / float64(max(rate, 1e-9)) * float64(time.Second)))
				if tt.want.State == Running && got.EmptyAt.Sub(wantEmpty).Abs() > time.Second {
					t.Errorf("EmptyAt = %v, want about %v", got.EmptyAt, wantEmpty)
				}
				if tt.want.State != Running && !got.EmptyAt.IsZero() {
					t.Errorf("EmptyAt = %v, want none", got.EmptyAt)
				}
				got.EmptyAt = time.Time{}
				tt.want.Drain, tt.want.Stream, tt.want.Sink = "d", "orders", "service"
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("status (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestStatusNextChange(t *testing.T) {
	inBubble(t, []string{"d"}, func(b *bench) {
		b.apply(set(nightly(t), wide()))
		now := time.Now()
		want := &Change{At: now.Add(30 * time.Minute).UTC(), Rate: 2, Because: "night"}
		if diff := cmp.Diff(want, b.drains.Status(now)[0].Next); diff != "" {
			t.Errorf("next change (-want +got):\n%s", diff)
		}
		b.pass(time.Hour)
		want = &Change{At: now.Add(390 * time.Minute).UTC(), Because: "base"}
		if diff := cmp.Diff(want, b.drains.Status(time.Now())[0].Next); diff != "" {
			t.Errorf("next change within the window (-want +got):\n%s", diff)
		}
	})
}

func TestRecent(t *testing.T) {
	var r recent
	now := start()
	for second := range 20 {
		for range second {
			r.add(now.Add(time.Duration(second)*time.Second), 1)
		}
	}
	// The seconds 14 … 18 are full, 19 is not over.
	if got := r.rate(now.Add(19*time.Second + ms(500))); got != 16 {
		t.Errorf("rate = %v, want the mean of 14 … 18", got)
	}
	if got := r.rate(now.Add(time.Hour)); got != 0 {
		t.Errorf("rate an hour later = %v", got)
	}
}

func TestMetrics(t *testing.T) {
	inBubble(t, []string{"d"}, func(b *bench) {
		b.apply(set(base(limiter.Unlimited), policies.Budget{Limit: limit(7, 1), Concurrency: 3}))
		names := []string{
			"forebay_drain_attempts_total", "forebay_drain_permitted_rate", "forebay_drain_estimated_empty_timestamp_seconds",
			"forebay_sink_in_flight_requests", "forebay_sink_concurrency_limit", "forebay_sink_budget_rate", "forebay_drain_binding",
			"forebay_sink_breaker_state", "forebay_drain_paused", "forebay_drain_override_until_timestamp_seconds",
			"forebay_drain_next_deadline_timestamp_seconds",
		}
		compare := func(want string) {
			t.Helper()
			if err := testutil.GatherAndCompare(b.reg, strings.NewReader(want), names...); err != nil {
				t.Error(err)
			}
		}
		want := func(success int, rate string, budget string) string {
			return fmt.Sprintf(`
# HELP forebay_drain_attempts_total Attempts at delivering a message that have ended, by outcome.
# TYPE forebay_drain_attempts_total counter
forebay_drain_attempts_total{drain="d",outcome="permanent",sink="service"} 0
forebay_drain_attempts_total{drain="d",outcome="retry",sink="service"} 0
forebay_drain_attempts_total{drain="d",outcome="success",sink="service"} %d
forebay_drain_attempts_total{drain="d",outcome="timeout",sink="service"} 0
# HELP forebay_drain_permitted_rate Messages a second that may leave now; +Inf when unlimited.
# TYPE forebay_drain_permitted_rate gauge
forebay_drain_permitted_rate{drain="d"} %s
# HELP forebay_drain_estimated_empty_timestamp_seconds When the last waiting message leaves; the present time when none waits, +Inf when no rate is in sight.
# TYPE forebay_drain_estimated_empty_timestamp_seconds gauge
forebay_drain_estimated_empty_timestamp_seconds{drain="d"} %d
# HELP forebay_drain_next_deadline_timestamp_seconds When the oldest unfinished message reaches its deadline; +Inf while there is none.
# TYPE forebay_drain_next_deadline_timestamp_seconds gauge
forebay_drain_next_deadline_timestamp_seconds{drain="d"} +Inf
# HELP forebay_drain_override_until_timestamp_seconds When an operator's rate ends; 0 while there is none.
# TYPE forebay_drain_override_until_timestamp_seconds gauge
forebay_drain_override_until_timestamp_seconds{drain="d"} 0
# HELP forebay_drain_paused 1 while an operator's pause holds.
# TYPE forebay_drain_paused gauge
forebay_drain_paused{drain="d"} 0
# HELP forebay_sink_breaker_state 1 for what the sink's breaker lets through: everything, nothing, or one probe at a time.
# TYPE forebay_sink_breaker_state gauge
forebay_sink_breaker_state{sink="service",state="closed"} 1
forebay_sink_breaker_state{sink="service",state="half_open"} 0
forebay_sink_breaker_state{sink="service",state="open"} 0
# HELP forebay_sink_in_flight_requests Attempts and live requests in flight.
# TYPE forebay_sink_in_flight_requests gauge
forebay_sink_in_flight_requests{sink="service"} 0
# HELP forebay_sink_concurrency_limit Attempts and live requests that may be in flight.
# TYPE forebay_sink_concurrency_limit gauge
forebay_sink_concurrency_limit{sink="service"} 3
# HELP forebay_sink_budget_rate Messages a second that the sink can take; +Inf when unlimited.
# TYPE forebay_sink_budget_rate gauge
forebay_sink_budget_rate{sink="service"} %s
`, success, rate, time.Now().Unix(), budget) + bindingText()
		}
		compare(want(0, "7", "7"))
		b.fill(5)
		b.pass(time.Minute)
		b.apply(set(base(limiter.Unlimited), policies.Budget{Limit: limit(limiter.Unlimited, 1), Concurrency: 3}))
		compare(want(5, "+Inf", "+Inf"))
		if n, err := testutil.GatherAndCount(b.reg, "forebay_drain_attempt_duration_seconds", "forebay_drain_delay_seconds"); n != 5 || err != nil {
			t.Errorf("%d histograms, %v; want 5", n, err)
		}
		if problems, err := testutil.GatherAndLint(b.reg); len(problems) > 0 || err != nil {
			t.Errorf("lint: %v, %v", problems, err)
		}
		b.apply(&policies.Set{})
		if n, err := testutil.GatherAndCount(b.reg); n != 0 || err != nil {
			t.Errorf("%d series, %v, after the last drain and sink are gone", n, err)
		}
	})
}

// bindingText is the gauge of an idle drain.
func bindingText() string {
	var s strings.Builder
	s.WriteString("# HELP forebay_drain_binding 1 for the constraint that keeps the drain from going faster.\n# TYPE forebay_drain_binding gauge\n")
	for _, c := range Constraints() {
		v := 0
		if c == Empty {
			v = 1
		}
		fmt.Fprintf(&s, "forebay_drain_binding{constraint=%q,drain=\"d\"} %d\n", c, v)
	}
	return s.String()
}

// An attempt that ends after its drain was removed brings no series back.
func TestMetricsOfRemovedDrain(t *testing.T) {
	inBubble(t, []string{"d"}, func(b *bench) {
		b.sinks["service"].takes = time.Minute
		b.apply(set(base(limiter.Unlimited), wide()))
		b.fill(1)
		b.apply(&policies.Set{})
		b.pass(2 * time.Minute)
		synctest.Wait()
		b.wantDelivered("d", 1)
		if n, err := testutil.GatherAndCount(b.reg); n != 0 || err != nil {
			t.Errorf("%d series, %v", n, err)
		}
	})
}
