package main_test

import "fmt"

// orderPolicy is the whole policy of these tests: one route, one stream, one
// drain at base, one sink that would take much more.
func orderPolicy(sinkURL, base string) string {
	return fmt.Sprintf(`version: 1
sinks:
  - name: shop
    http: { urls: ["%s"] }
    budget: { rate: 2000/s }
streams:
  - name: orders
drains:
  - name: orders-to-shop
    stream: orders
    sink: shop
    schedule: { base: %s }
    retry: { backoff: { initial: 100ms, max: 500ms } }
routes:
  - name: create-order
    match: { methods: [POST], path: /v1/orders }
    mode: buffer
    stream: orders
    max_body: 64KiB
`, sinkURL, base)
}

// clauses are what a test adds to an object of a policy, in YAML's flow style.
type clauses struct{ http, sink, stream, drain, route string }

// policy is orderPolicy with the clauses, and without a budget of the sink.
func (c clauses) policy(sinkURL, base string) string {
	also := func(clause string) string {
		if clause == "" {
			return ""
		}
		return ", " + clause
	}
	return fmt.Sprintf(`version: 1
sinks:
  - { name: shop, http: { urls: ["%s"]%s }%s }
streams:
  - { name: orders%s }
drains:
  - { name: orders-to-shop, stream: orders, sink: shop, schedule: { base: %s }%s }
routes:
  - { name: create-order, match: { methods: [POST], path: /v1/orders }, mode: buffer, stream: orders%s }
`, sinkURL, also(c.http), also(c.sink), also(c.stream), base, also(c.drain), also(c.route))
}

// fanOutPolicy has one stream and two drains, each to a sink of its own.
func fanOutPolicy(stalled, shaky string, rate int) string {
	return fmt.Sprintf(`version: 1
sinks:
  - name: stalled
    http: { urls: ["%s"], timeout: { total: 1h } }
  - name: shaky
    http: { urls: ["%s"] }
streams:
  - name: orders
drains:
  - { name: to-stalled, stream: orders, sink: stalled, schedule: { base: %[3]d/s } }
  - { name: to-shaky, stream: orders, sink: shaky, schedule: { base: %[3]d/s } }
routes:
  - { name: create-order, match: { methods: [POST], path: /v1/orders }, mode: buffer, stream: orders }
`, stalled, shaky, rate)
}
