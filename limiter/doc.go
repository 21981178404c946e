// Package limiter says how much may leave now, and when more may.
//
// A [Bucket] is a token bucket, a [Budget] what a sink can take: a bucket and a
// fixed number of slots for attempts in flight, shared by everything that goes
// to the sink. A [Keyed] holds the buckets of callers, one a key, in bounded
// memory.
//
// What it promises: for any sequence of calls at any times, what was taken in
// an interval t is at most rate × t + burst, and the long-run rate is not lost
// to rounding. The time is always an argument; nothing here reads a clock,
// starts a goroutine or blocks for longer than a mutex is held.
//
// What it does not promise: fairness between those who share a budget. Who
// asks first is served first.
package limiter
