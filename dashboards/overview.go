package dashboards

// overview is the page to look at first: does what comes in get out in time.
func overview() dashboard {
	return dashboard{
		name: "overview", title: "Overview", description: "Does what comes in get out in time: rates, backlog, what holds it up, and what is foretold.",
		rows: []row{
			{"Now", []panel{
				number("Waiting", "short", "0", "Messages that some drain has not finished, counted once a drain.",
					`sum(forebay_drain_messages{$on,state=~"pending|in_flight|scheduled"})`),
				number("Oldest waiting", "s", "nothing waits", "Age of the oldest message that is not finished.",
					`time() - min(forebay_stream_oldest_message_timestamp_seconds{$on} > 0)`),
				number("Last drain empty", "dateTimeFromNow", "not in sight", "When the last drain has delivered what waits now, if nothing more came. Drains with no rate in sight are left out.",
					`1000 * max(forebay_drain_estimated_empty_timestamp_seconds{$on} < +Inf)`),
				number("First deadline missed", "dateTimeFromNow", "none in sight", "The deadline of the first message that will not leave in time.",
					`1000 * min(forebay_drain_deadline_miss_timestamp_seconds{$on} < +Inf)`).redFrom("0"),
				number("Time to a full stream or disk", "s", "not in sight", "Until the first stream is at its max_bytes, or the disk takes no more, at the growth of the last minute or two. Red within the hour.",
					`min(forebay_stream_full_timestamp_seconds{$on} < +Inf or forebay_buffer_full_timestamp_seconds{$on} < +Inf) - time()`).redBelow("3600"),
				number("Ledger imbalance", "short", "not scraped", "Accepted less delivered, expired, cancelled, dead and buffered. Anything but 0 is a fault of Forebay.",
					`sum(abs(forebay_ledger_imbalance{$on}))`).redFrom("1"),
			}},
			{"In and out", []panel{
				graph("In, out and permitted", "mps", "Messages accepted, delivered, and what may leave now. A drain without a limit is left out of what is permitted.",
					query{`sum(rate(forebay_stream_accepted_messages_total{$on}[$__rate_interval]))`, "accepted"},
					query{`sum(rate(forebay_drain_delivered_messages_total{$on}[$__rate_interval]))`, "delivered"},
					query{`sum(forebay_drain_permitted_rate{$on} < +Inf)`, "permitted"}).wide(),
				graph("Requests by decision", "reqps", "What callers were told: passed, held, buffered; limited is their quota, full our capacity.",
					query{`sum by (decision) (rate(forebay_ingress_requests_total{$on}[$__rate_interval]))`, "{{decision}}"}).wide().stacked(),
			}},
			{"Backlog", []panel{
				graph("Backlog", "short", "Messages of each stream that at least one drain has not finished.",
					query{`sum by (stream) (forebay_stream_messages{$on})`, "{{stream}}"}),
				graph("Oldest waiting", "s", "Age of the oldest unfinished message of each stream; nothing where none waits.",
					query{`max by (stream) (time() - (forebay_stream_oldest_message_timestamp_seconds{$on} > 0))`, "{{stream}}"}),
				graph("Time to empty", "s", "How long each drain needs for what waits now. A line that ends while messages wait: no rate is in sight.",
					query{`max by (drain) ((forebay_drain_estimated_empty_timestamp_seconds{$on} < +Inf) - time() > 0)`, "{{drain}}"}),
			}},
			{"Why", []panel{
				states("What binds", "The constraint that keeps each drain from going faster.",
					query{`max by (drain, constraint) (forebay_drain_binding{$on} == 1)`, "{{drain}}: {{constraint}}"}),
				states("Windows", "When each time interval of the policy is active.",
					query{`max by (interval) (forebay_time_interval_active{$on})`, "{{interval}}"}),
			}},
		},
	}
}
