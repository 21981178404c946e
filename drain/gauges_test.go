package drain

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"forebay/policies"
)

// The gauges of what operators, deadlines and the breaker do.
func TestMetricsOfHolds(t *testing.T) {
	inBubble(t, []string{"d"}, func(b *bench) {
		policy := breaking(100, wide())
		policy.Drains[0].Deadline = policies.Deadline{MaxDelay: time.Hour, OnExpire: policies.EndDead}
		b.sinks["service"].answer = func(Delivery) Outcome { return Outcome{Error: "refused"} }
		b.apply(policy)
		from := time.Now().Unix()
		b.fill(100)
		b.pass(5 * time.Second)
		b.must(b.drains.Override("d", 5, time.Now().Add(time.Minute), ""))
		b.must(b.drains.Pause("d", time.Time{}, ""))
		want := fmt.Sprintf(`
# HELP forebay_drain_next_deadline_timestamp_seconds When the oldest unfinished message reaches its deadline; +Inf while there is none.
# TYPE forebay_drain_next_deadline_timestamp_seconds gauge
forebay_drain_next_deadline_timestamp_seconds{drain="d"} %d
# HELP forebay_drain_override_until_timestamp_seconds When an operator's rate ends; 0 while there is none.
# TYPE forebay_drain_override_until_timestamp_seconds gauge
forebay_drain_override_until_timestamp_seconds{drain="d"} %d
# HELP forebay_drain_paused 1 while an operator's pause holds.
# TYPE forebay_drain_paused gauge
forebay_drain_paused{drain="d"} 1
# HELP forebay_sink_breaker_state 1 for what the sink's breaker lets through: everything, nothing, or one probe at a time.
# TYPE forebay_sink_breaker_state gauge
forebay_sink_breaker_state{sink="service",state="closed"} 0
forebay_sink_breaker_state{sink="service",state="half_open"} 0
forebay_sink_breaker_state{sink="service",state="open"} 1
`, from+3600, from+65)
		err := testutil.GatherAndCompare(b.reg, strings.NewReader(want), "forebay_drain_next_deadline_timestamp_seconds",
			"forebay_drain_override_until_timestamp_seconds", "forebay_drain_paused", "forebay_sink_breaker_state")
		if err != nil {
			t.Error(err)
		}
	})
}
