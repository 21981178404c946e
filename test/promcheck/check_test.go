package promcheck

import (
	"slices"
	"testing"
	"time"
)

// interval is what Grafana puts for $__rate_interval with a scrape each second, four of
// them, or more where a pixel is longer.
const interval = "10s"

// empty are queries that the scene gives nothing for, by a metric in them, with the reason.
var empty = map[string]string{
	"forebay_source_records_total":                 "the scene has no source: there is no Kafka beside it",
	"forebay_source_lag_messages":                  "the scene has no source: there is no Kafka beside it",
	"forebay_source_partitions":                    "the scene has no source: there is no Kafka beside it",
	"forebay_source_state":                         "the scene has no source: there is no Kafka beside it",
	"forebay_source_paused":                        "the scene has no source: there is no Kafka beside it",
	"forebay_source_errors_total":                  "the scene has no source: there is no Kafka beside it",
	"forebay_sink_consumer_lag_messages":           "the scene has no Kafka sink: there is no Kafka beside it",
	"forebay_sink_gathering_messages":              "the scene has no sink that makes files: there is no HDFS beside it",
	"forebay_sink_gathering_bytes":                 "the scene has no sink that makes files: there is no HDFS beside it",
	"forebay_certificate_expiry_timestamp_seconds": "listeners have no TLS yet",
	"forebay_stream_orphaned":                      "it takes a start with another policy",
	"forebay_drain_orphaned":                       "it takes a start with another policy",
}

// panels runs the queries of every panel and annotation: none fails, and none is empty
// without a reason, which is true.
func (s *scene) panels(t *testing.T, from, to time.Time) {
	queries, reasons := 0, map[string]bool{}
	check := func(where, expr string) {
		t.Helper()
		queries++
		lines := s.prom.over(t, filled(expr, interval), from, to)
		reason := reasonOf(expr, reasons)
		switch said := slices.ContainsFunc(lines, line.says); {
		case said && reason != "":
			t.Errorf("%s: %s\nis not empty though %s", where, expr, reason)
		case !said && reason == "":
			t.Errorf("%s: %s\nis empty", where, expr)
		}
	}
	for _, b := range boards(t) {
		for _, p := range b.Panels {
			for _, target := range p.Targets {
				check(b.Title+", "+p.Title, target.Expr)
			}
		}
		for _, a := range b.Annotations.List {
			check(b.Title+", annotation "+a.Name, a.Expr)
		}
	}
	if len(reasons) != len(empty) {
		t.Errorf("reasons that no query needs: of %v only %v do", empty, reasons)
	}
	t.Logf("%d queries", queries)
}

func reasonOf(expr string, used map[string]bool) string {
	for _, name := range selected(expr) {
		if reason := empty[name]; reason != "" {
			used[name] = true
			return reason
		}
	}
	return ""
}

// rules looks at what the rules made of the scene.
func (s *scene) rules(t *testing.T, from, to time.Time) {
	var data struct {
		Groups []struct {
			Rules []struct{ Name, Health, LastError string }
		}
	}
	s.prom.ask(t, "/api/v1/rules", nil, &data)
	for _, g := range data.Groups {
		for _, r := range g.Rules {
			if r.Health != "ok" {
				t.Errorf("%s is %s: %s", r.Name, r.Health, r.LastError)
			}
		}
	}
	fired := s.prom.alerts(t, "firing", from, to)
	t.Logf("fired: %v", names(fired))
	for _, want := range []string{"ForebayDrainStalled orders", "ForebaySinkBreakerOpen", "ForebayDeadLettering mails", "ForebayDeadlineAtRisk mails", "ForebayDeadlineMissed mails", "ForebayBufferNearlyFull", "ForebayPolicyReloadFailed", "ForebayRejectingForCapacity"} {
		if len(fired[want]) == 0 {
			t.Errorf("%s did not fire", want)
		}
	}
	// The forecast came first, and came true.
	if risk, missed := fired["ForebayDeadlineAtRisk mails"], fired["ForebayDeadlineMissed mails"]; len(risk) > 0 && len(missed) > 0 && !risk[0].Before(missed[0]) {
		t.Errorf("deadlines were at risk from %v on, and missed from %v on", risk[0], missed[0])
	}
	for _, never := range []string{"ForebayDown", "ForebayRestarts", "ForebayLedgerImbalance orders", "ForebayDamage", "ForebayStorageReadOnly", "ForebayFails", "ForebayOrphaned", "ForebayDrainStalled mails", "ForebayDrainStalled logs"} {
		if len(fired[never]) > 0 {
			t.Errorf("%s fired at %v", never, fired[never][0])
		}
	}
}

func names(m map[string][]time.Time) (list []string) {
	for name := range m {
		list = append(list, name)
	}
	slices.Sort(list)
	return list
}

// removed looks at the series of a stream and drain that a reload removed: Prometheus
// ends them with the next scrape, not five minutes later.
func (s *scene) removed(t *testing.T, from, to time.Time) {
	for _, expr := range []string{`forebay_stream_messages{stream="passing"}`, `forebay_drain_messages{drain="passing"}`} {
		lines := s.prom.over(t, expr, from, to)
		if len(lines) == 0 {
			t.Errorf("%s was never there", expr)
		}
		for _, l := range lines {
			if end := l.at[len(l.at)-1]; to.Sub(end) < 5*time.Second {
				t.Errorf("%s is there %v before the end", expr, to.Sub(end))
			}
		}
	}
}
