package app

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"forebay/buffer"
)

// named is a policy in which every object has the suffix in its name.
func named(url, suffix string) string {
	return strings.NewReplacer("night", "night-"+suffix, "name: shop", "name: shop-"+suffix, "sink: shop", "sink: shop-"+suffix,
		"name: orders", "name: orders-"+suffix, "stream: orders", "stream: stream-"+suffix,
		"streams:\n  - name: orders", "streams:\n  - name: stream-"+suffix, "create-order", "create-"+suffix, "callers", "callers-"+suffix,
		"name: legacy", "name: legacy-"+suffix,
	).Replace(policyText(url, "1000/s") + unreachableSource)
}

// series are what a scrape has, as name{label="value",…} with the labels in order.
func (r *running) series(t *testing.T) map[string]bool {
	t.Helper()
	families, err := r.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			name := f.GetName()
			if len(labels) > 0 {
				name += "{" + strings.Join(labels, ",") + "}"
			}
			found[name] = true
		}
	}
	return found
}

// closedSeries are those of a policy with names of that suffix which have to be
// there before anything happens.
func closedSeries(suffix string) (list []string) {
	drain, stream, sink := "orders-"+suffix, "stream-"+suffix, "shop-"+suffix
	each := func(form string, values ...string) {
		for _, v := range values {
			list = append(list, fmt.Sprintf(form, v))
		}
	}
	for _, name := range []string{"accepted_messages_total", "messages", "bytes", "capacity_bytes", "oldest_message_timestamp_seconds", "full_timestamp_seconds", "closed", "orphaned"} {
		list = append(list, fmt.Sprintf("forebay_stream_%s{stream=%q}", name, stream))
	}
	list = append(list, fmt.Sprintf("forebay_buffer_append_duration_seconds{stream=%q}", stream))
	for _, name := range []string{
		"delivered_messages_total", "expired_messages_total", "cancelled_messages_total", "delay_seconds", "permitted_rate",
		"estimated_empty_timestamp_seconds", "paused", "override_until_timestamp_seconds", "next_deadline_timestamp_seconds", "deadline_miss_timestamp_seconds", "orphaned",
	} {
		list = append(list, fmt.Sprintf("forebay_drain_%s{drain=%q}", name, drain))
	}
	each("forebay_drain_messages{drain=\""+drain+"\",state=%q}", "pending", "in_flight", "scheduled", "dead")
	for _, reason := range buffer.Reasons() {
		each("forebay_drain_dead_messages_total{drain=\""+drain+"\",reason=%q}", string(reason))
	}
	each("forebay_drain_attempts_total{drain=\""+drain+"\",outcome=%q,sink=\""+sink+"\"}", "success", "retry", "permanent", "timeout")
	each("forebay_drain_attempt_duration_seconds{drain=\""+drain+"\",outcome=%q,sink=\""+sink+"\"}", "success", "retry", "permanent", "timeout")
	each("forebay_drain_eta_promises_total{drain=\""+drain+"\",result=%q}", "kept", "missed", "void")
	each("forebay_drain_binding{constraint=%q,drain=\""+drain+"\"}", "paused", "schedule", "floor", "deadline", "override", "sink-budget",
		"concurrency", "live-traffic", "retry-after", "rate-header", "breaker", "slow-start", "kafka-lag", "ordering", "empty", "unlimited")
	each("forebay_sink_%s{sink=\""+sink+"\"}", "in_flight_requests", "concurrency_limit", "budget_rate")
	for _, constraint := range []string{"retry-after", "rate-header"} {
		each("forebay_sink_advice_total{constraint=\""+constraint+"\",result=%q,sink=\""+sink+"\"}", "taken", "clamped", "ignored")
	}
	for _, name := range []string{"lag_messages", "errors_total", "partitions"} {
		list = append(list, fmt.Sprintf("forebay_source_%s{source=\"legacy-%s\"}", name, suffix))
	}
	each("forebay_source_records_total{result=%q,source=\"legacy-"+suffix+"\"}", "stored", "refused", "stopped")
	each("forebay_source_state{source=\"legacy-"+suffix+"\",state=%q}", "connecting", "running", "paused", "stopped", "failing")
	each("forebay_source_paused{reason=%q,source=\"legacy-"+suffix+"\"}", "buffer-full", "disk-full", "dead-letters-full", "overloaded", "stream-closed")
	each("forebay_sink_breaker_state{sink=\""+sink+"\",state=%q}", "closed", "open", "half_open")
	each("forebay_time_interval_%s{interval=\"night-"+suffix+"\"}", "active", "next_change_timestamp_seconds")
	for _, outcome := range []string{"202\",decision=\"buffered", "202\",decision=\"replayed", "429\",decision=\"limited", "503\",decision=\"full", "400\",decision=\"invalid", "500\",decision=\"error"} {
		each("forebay_ingress_requests_total{code=\""+outcome+"\",route=%q}", "create-"+suffix)
		each("forebay_ingress_request_duration_seconds{code=\""+outcome+"\",route=%q}", "create-"+suffix)
	}
	each("forebay_ingress_refusals_total{reason=%q,route=\"create-"+suffix+"\"}", "buffer-full", "disk-full", "overloaded", "dead-letters-full", "stream-closed", "shutting-down")
	each("forebay_ingress_waiting_requests{route=%q}", "create-"+suffix)
	each("forebay_limit_decisions_total{decision=%q,limit=\"callers-"+suffix+"\"}", "allow", "deny", "shadow_deny")
	each("forebay_limit_%s{limit=\"callers-"+suffix+"\"}", "tracked_keys", "key_evictions_total", "store_errors_total")
	return append(list, fmt.Sprintf("forebay_ledger_imbalance{drain=%q,stream=%q}", drain, stream))
}

// TestSeries holds that every combination of closed labels is there from the
// first scrape on, after a reload too, and that what the reload removed is gone
// at once.
func TestSeries(t *testing.T) {
	s := newShop(t)
	r := start(t, named(s.url, "one"))
	constant := []string{"forebay_policy_last_reload_successful", "forebay_policy_last_reload_success_timestamp_seconds", "forebay_buffer_size_bytes", "forebay_buffer_free_bytes", "forebay_buffer_room_bytes", "forebay_buffer_full_timestamp_seconds", "forebay_buffer_corrupt_blocks_total", "forebay_buffer_read_blocks_total", "forebay_buffer_stalled_commits_total", "forebay_buffer_read_only", "forebay_buffer_commit_messages", "forebay_buffer_sync_duration_seconds"}
	for _, v := range []string{"new", "replay", "in_progress", "mismatch"} {
		constant = append(constant, fmt.Sprintf("forebay_idempotency_lookups_total{result=%q}", v))
	}
	for _, v := range []string{"success", "failure"} {
		constant = append(constant, fmt.Sprintf("forebay_policy_reloads_total{result=%q}", v))
	}
	for _, v := range []string{"open", "sealed"} {
		constant = append(constant, fmt.Sprintf("forebay_buffer_segments{state=%q}", v))
	}
	check := func(when, is, was string) {
		t.Helper()
		have := r.series(t)
		for _, want := range append(closedSeries(is), constant...) {
			if !have[want] {
				t.Errorf("%s: %s is missing", when, want)
			}
		}
		for _, series := range slices.Sorted(maps.Keys(have)) {
			if was != "" && strings.Contains(series, "-"+was+`"`) {
				t.Errorf("%s: %s is still there", when, series)
			}
		}
	}
	check("at the start", "one", "")
	r.post(t, "x")
	until(t, "the shop has the order, and the drain is done", func() bool { return len(s.got()) == 1 && r.metric(t, "forebay_stream_messages", "stream-one") == 0 })
	if err := os.WriteFile(r.policy, []byte(named(s.url, "two")), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Reload("test"); err != nil {
		t.Fatal(err)
	}
	check("after a reload with other names", "two", "one")
}
