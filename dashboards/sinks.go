package dashboards

// sinksAndSources is what lies before and behind Forebay.
func sinksAndSources() dashboard {
	return dashboard{
		name: "sinks", title: "Sinks and sources", description: "Each sink: its budget, who uses it, how it answers; each source: what it took in and how far it is behind.",
		variables: []string{"sink forebay_sink_budget_rate"},
		rows: []row{
			{"Use", []panel{
				graph("Drained and live", "mps", "Attempts of drains and requests of callers that reached each sink, beside its budget. A sink without a rate has no budget line.",
					query{`sum by (sink) (rate(forebay_drain_attempts_total{$on,sink=~"$sink"}[$__rate_interval]))`, "{{sink}} drained"},
					query{`sum by (sink) (rate(forebay_sink_live_requests_total{$on,sink=~"$sink"}[$__rate_interval]))`, "{{sink}} live"},
					query{`sum by (sink) (forebay_sink_budget_rate{$on,sink=~"$sink"} < +Inf)`, "{{sink}} budget"}).wide(),
				graph("In flight", "short", "Attempts and live requests in flight, and how many may be: with adaptive concurrency that falls while the sink is slow.",
					query{`sum by (sink) (forebay_sink_in_flight_requests{$on,sink=~"$sink"})`, "{{sink}}"},
					query{`sum by (sink) (forebay_sink_concurrency_limit{$on,sink=~"$sink"})`, "{{sink}} may be"}).wide(),
				graph("Consumers behind", "short", "How far the group of max_consumer_lag is behind, for Kafka sinks that have it. Nothing is sent while that is over the bound.",
					query{`max by (sink) (forebay_sink_consumer_lag_messages{$on,sink=~"$sink"})`, "{{sink}}"}),
				graph("Gathering in files", "short", "Messages in files on HDFS that are written and have no name yet: they count as delivered once they have. Other sinks have no line.",
					query{`sum by (sink) (forebay_sink_gathering_messages{$on,sink=~"$sink"}) > 0`, "{{sink}}"}),
				graph("Bytes in those files", "bytes", "What those files have so far, as it lies there.",
					query{`sum by (sink) (forebay_sink_gathering_bytes{$on,sink=~"$sink"}) > 0`, "{{sink}}"}),
			}},
			{"Answers", []panel{
				graph("Attempts by outcome", "mps", "How attempts of drains ended at each sink.",
					query{`sum by (sink, outcome) (rate(forebay_drain_attempts_total{$on,sink=~"$sink"}[$__rate_interval])) > 0`, "{{sink}} {{outcome}}"}).stacked(),
				graph("Time of an attempt", "s", "How long an attempt took, all outcomes.",
					query{`histogram_quantile(0.99, sum by (sink, le) (rate(forebay_drain_attempt_duration_seconds_bucket{$on,sink=~"$sink"}[$__rate_interval])))`, "{{sink}} p99"},
					query{`histogram_quantile(0.5, sum by (sink, le) (rate(forebay_drain_attempt_duration_seconds_bucket{$on,sink=~"$sink"}[$__rate_interval])))`, "{{sink}} p50"}),
				graph("Asked to slow down", "cps", "Fields of the sink's answers that ask for a pause (retry-after) or a rate (rate-header), and what became of them.",
					query{`sum by (sink, constraint, result) (rate(forebay_sink_advice_total{$on,sink=~"$sink"}[$__rate_interval])) > 0`, "{{sink}} {{constraint}} {{result}}"}),
				states("Breaker", "open: nothing is sent; half_open: one probe at a time; a closed breaker has no line.",
					query{`max by (sink, state) (forebay_sink_breaker_state{$on,sink=~"$sink",state!="closed"} == 1)`, "{{sink}} {{state}}"}).full(),
			}},
			{"Sources", []panel{
				graph("Records", "mps", "Records of each source by what became of them: stored; refused, which went to the topic for that; stopped, at which their partition stands still.",
					query{`sum by (source, result) (rate(forebay_source_records_total{$on}[$__rate_interval]))`, "{{source}} {{result}}"}),
				graph("Lag", "short", "Records that wait at the source's brokers, of the partitions that it has.",
					query{`sum by (source) (forebay_source_lag_messages{$on})`, "{{source}}"}),
				graph("Partitions", "short", "Partitions that each source was given; with several nodes they share them.",
					query{`sum by (source) (forebay_source_partitions{$on})`, "{{source}}"}),
				states("State of sources", "What each source is about, and why it waits where it does.",
					query{`max by (source, state) (forebay_source_state{$on} == 1)`, "{{source}} {{state}}"},
					query{`max by (source, reason) (forebay_source_paused{$on} == 1)`, "{{source}} waits: {{reason}}"}),
				graph("Errors of the brokers", "ops", "What went wrong between a source and its brokers, each attempt.",
					query{`sum by (source) (rate(forebay_source_errors_total{$on}[$__rate_interval]))`, "{{source}}"}).wide(),
			}},
		},
	}
}
