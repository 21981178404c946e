package dashboards

// limits is what callers meet.
func limits() dashboard {
	return dashboard{
		name: "limits", title: "Limits", description: "What callers meet: limits on them, refusals for want of capacity, waits, and how long an answer takes.",
		variables: []string{"route forebay_ingress_waiting_requests", "limit forebay_limit_tracked_keys"},
		rows: []row{
			{"Limits on callers", []panel{
				graph("Decisions", "reqps", "allow passed every limit of its route; deny was refused by this one; shadow_deny would have been.",
					query{`sum by (limit, decision) (rate(forebay_limit_decisions_total{$on,limit=~"$limit"}[$__rate_interval])) > 0`, "{{limit}} {{decision}}"}),
				graph("Share refused", "percentunit", "Of the requests that met each limit, those that it refused, or would have in shadow.",
					query{`sum by (limit) (rate(forebay_limit_decisions_total{$on,limit=~"$limit",decision=~"deny|shadow_deny"}[$__rate_interval])) / (sum by (limit) (rate(forebay_limit_decisions_total{$on,limit=~"$limit"}[$__rate_interval])) > 0)`, "{{limit}}"}),
				graph("Tracked keys", "short", "Keys that have a bucket; at max_keys new ones may have to share.",
					query{`sum by (limit) (forebay_limit_tracked_keys{$on,limit=~"$limit"})`, "{{limit}}"}),
				graph("Evictions", "ops", "Full buckets that were forgotten to make room. Many: max_keys is small for the callers there are.",
					query{`sum by (limit) (rate(forebay_limit_key_evictions_total{$on,limit=~"$limit"}[$__rate_interval]))`, "{{limit}}"}),
				graph("Errors of the store", "ops", "Failures of the store that limits of a cluster are counted in.",
					query{`sum by (limit) (rate(forebay_limit_store_errors_total{$on,limit=~"$limit"}[$__rate_interval]))`, "{{limit}}"}),
				graph("Idempotency keys", "reqps", "Requests with an idempotency key: new, sent again (replay), the first still under way, or with another body (mismatch).",
					query{`sum by (result) (rate(forebay_idempotency_lookups_total{$on}[$__rate_interval]))`, "{{result}}"}).stacked(),
			}},
			{"Routes", []panel{
				graph("Requests", "reqps", "Requests by route and status.",
					query{`sum by (route, code) (rate(forebay_ingress_requests_total{$on,route=~"$route|"}[$__rate_interval])) > 0`, "{{route}} {{code}}"}).stacked(),
				graph("Refused for want of capacity", "reqps", "503 by the reason in the answer: ours, or the sink's.",
					query{`sum by (route, reason) (rate(forebay_ingress_refusals_total{$on,route=~"$route"}[$__rate_interval])) > 0`, "{{route}} {{reason}}"}).stacked(),
				graph("Waiting", "short", "Requests that wait for their sink, or for the final state of their message.",
					query{`sum by (route) (forebay_ingress_waiting_requests{$on,route=~"$route|"})`, "{{route}}"}),
				graph("Time to the answer", "s", "From a request's header to the end of its answer, by route.",
					query{`histogram_quantile(0.99, sum by (route, le) (rate(forebay_ingress_request_duration_seconds_bucket{$on,route=~"$route"}[$__rate_interval])))`, "{{route}} p99"},
					query{`histogram_quantile(0.5, sum by (route, le) (rate(forebay_ingress_request_duration_seconds_bucket{$on,route=~"$route"}[$__rate_interval])))`, "{{route}} p50"}).wide(),
				graph("Share refused for want of capacity", "percentunit", "Of all requests of a route those that got 503: what the burn-rate alert watches.",
					query{`sum by (route) (rate(forebay_ingress_requests_total{$on,route=~"$route",decision="full"}[$__rate_interval])) / (sum by (route) (rate(forebay_ingress_requests_total{$on,route=~"$route"}[$__rate_interval])) > 0)`, "{{route}}"}).wide(),
			}},
		},
	}
}
