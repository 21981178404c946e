package app

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"forebay/buffer"
	"forebay/policies"
)

// TestMetricNames pins every metric of a running program. Dashboards and alerts
// rely on them: a name that goes is a breaking change.
func TestMetricNames(t *testing.T) {
	s := newShop(t)
	r := start(t, policyText(s.url, "1000/s")+unreachableSource)
	r.post(t, "x")
	until(t, "the shop has the order", func() bool { return len(s.got()) == 1 })
	families, err := r.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "forebay_") {
			got = append(got, f.GetName()+" "+strings.ToLower(f.GetType().String()))
		}
	}
	raw, err := os.ReadFile("testdata/metrics.txt")
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Split(strings.TrimSpace(string(raw)), "\n")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("metrics (-want +got):\n%s\nall of them:\n%s", diff, strings.Join(got, "\n"))
	}
	problems, err := testutil.GatherAndLint(r.reg)
	if err != nil || len(problems) > 0 {
		t.Errorf("GatherAndLint = %v, %v", problems, err)
	}
}

// fixed is a buffer with one of each.
func fixed() buffer.Stats {
	at := time.Unix(1_700_000_000, 0)
	return buffer.Stats{
		Streams: []buffer.StreamStats{
			{Stream: "a", Messages: 3, Bytes: 100, MaxBytes: 1000, Accepted: 7, Oldest: at},
			{Stream: "b"},
		},
		Drains: []buffer.DrainStats{{
			Drain: "d", Stream: "a", Pending: 1, InFlight: 1, Scheduled: 1, Delivered: 2, Expired: 1, Cancelled: 1,
			Dead:   map[buffer.Reason]uint64{buffer.ReasonPermanent: 4, buffer.ReasonMaxAge: 5},
			Buried: map[buffer.Reason]uint64{buffer.ReasonPermanent: 6, buffer.ReasonMaxAge: 5},
		}},
		Bytes: 4096, Free: 8192, Segments: map[string]int{"open": 1, "sealed": 2}, Corrupt: 3, ReadOnly: true,
	}
}

func TestStateCollector(t *testing.T) {
	accounts := []buffer.Account{{Stream: "a", Drain: "d", Accepted: 7, Delivered: 2, Buffered: 3}, {Stream: "a", Drain: "gone"}}
	c := newStateCollector(stateSources{
		stats: fixed, policy: func() *policies.Set { return &policies.Set{} }, gate: newGate(), fills: &fills{},
		ledger: &ledger{audit: func(context.Context) ([]buffer.Account, error) { return accounts, nil }},
	})
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(c)
	want := `
# HELP forebay_buffer_read_only Whether appends are refused, for want of disk space or because the buffer stopped: 1, or 0.
# TYPE forebay_buffer_read_only gauge
forebay_buffer_read_only 1
# HELP forebay_drain_dead_messages_total Messages buried; those that are dead at the start are counted, those replayed or dropped stay counted.
# TYPE forebay_drain_dead_messages_total counter
forebay_drain_dead_messages_total{drain="d",reason="damaged"} 0
forebay_drain_dead_messages_total{drain="d",reason="deadline"} 0
forebay_drain_dead_messages_total{drain="d",reason="max-age"} 5
forebay_drain_dead_messages_total{drain="d",reason="max-attempts"} 0
forebay_drain_dead_messages_total{drain="d",reason="permanent"} 6
forebay_drain_dead_messages_total{drain="d",reason="retention"} 0
# HELP forebay_drain_messages Messages of the drain.
# TYPE forebay_drain_messages gauge
forebay_drain_messages{drain="d",state="dead"} 9
forebay_drain_messages{drain="d",state="in_flight"} 1
forebay_drain_messages{drain="d",state="pending"} 1
forebay_drain_messages{drain="d",state="scheduled"} 1
# HELP forebay_ledger_imbalance Accepted less delivered, expired, cancelled, dead and buffered, re-counted at most every 10 s. Anything but 0 is a fault.
# TYPE forebay_ledger_imbalance gauge
forebay_ledger_imbalance{drain="d",stream="a"} 2
# HELP forebay_stream_capacity_bytes The stream's max_bytes; +Inf where the disk alone bounds it.
# TYPE forebay_stream_capacity_bytes gauge
forebay_stream_capacity_bytes{stream="a"} 1000
forebay_stream_capacity_bytes{stream="b"} +Inf
# HELP forebay_stream_oldest_message_timestamp_seconds When the oldest unfinished message was accepted, in Unix time; 0 where there is none.
# TYPE forebay_stream_oldest_message_timestamp_seconds gauge
forebay_stream_oldest_message_timestamp_seconds{stream="a"} 1.7e+09
forebay_stream_oldest_message_timestamp_seconds{stream="b"} 0
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "forebay_buffer_read_only", "forebay_drain_dead_messages_total", "forebay_drain_messages", "forebay_ledger_imbalance",
		"forebay_stream_capacity_bytes", "forebay_stream_oldest_message_timestamp_seconds"); err != nil {
		t.Error(err)
	}
}

func TestTeardown(t *testing.T) {
	var down teardown
	var order []string
	for _, name := range []string{"a", "b", "c"} {
		down.push(name, func(context.Context) error {
			order = append(order, name)
			if name == "b" {
				return errors.New("broken")
			}
			return nil
		})
	}
	err := down.unwind(t.Context())
	if diff := cmp.Diff([]string{"c", "b", "a"}, order); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
	if err == nil || err.Error() != "stop b: broken" {
		t.Errorf("unwind = %v, want %q", err, "stop b: broken")
	}
}
