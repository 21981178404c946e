// Package bench loads one HTTP target and measures how it answers.
//
// The load is open: when each request is due is fixed before the first is sent,
// and latency counts from then, whether or not a connection was free. So a target
// that stalls shows the stall in every request that would have met it, not only in
// those that were under way (what is called coordinated omission). Without a rate
// the loop is closed: each connection sends as soon as it has its answer.
//
// What it does not do: follow redirects or Retry-After, send anything twice, speak
// HTTP/2, use a proxy.
package bench
