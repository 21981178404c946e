package policies

import (
	"net/netip"
	"net/url"
	"time"

	"forebay/limiter"
)

// Set is a validated, compiled policy, made by Load or Parse. It is immutable: a
// request or a scheduling step loads it once and uses that value to the end.
type Set struct {
	Hash    string // of the files' bytes; 12 hexadecimal digits
	Streams []Stream
	Sinks   []Sink
	Drains  []Drain
	Routes  []Route
	// Intervals in the order of the files.
	Intervals []Interval

	router router
	places map[object]place // where each object is defined, for warnings
}

// Stream is a durable sequence of messages.
type Stream struct {
	Name            string
	MaxBytes        int64 // 0: the disk's bound alone
	MaxMessageBytes int64
	KeepDelivered   time.Duration
}

// Sink is what drains deliver to. It owns the budget.
type Sink struct {
	Name   string
	HTTP   *HTTPSink
	Budget Budget
}

// HTTPSink delivers each message as one request.
type HTTPSink struct {
	URLs []*url.URL
	// AllowAddresses are link-local and metadata ranges that may be dialled all the same.
	AllowAddresses []netip.Prefix
	ConnectTimeout time.Duration
	Timeout        time.Duration // of an attempt, connection and body included
	Permanent      []int         // statuses that bury
}

// Budget is what a sink can take, live and drained traffic together.
type Budget struct {
	Limit       limiter.Limit // burst where the policy has none: max(1, 10 ms of the rate)
	Concurrency int           // attempts in flight
}

// Drain is one reader of a stream.
type Drain struct {
	Name     string
	Stream   string
	Sink     string
	Schedule Schedule
	Retry    Retry
}

// Retry bounds how long and how often a message is tried again.
type Retry struct {
	MaxAttempts      int           // answers about the message
	MaxAge           time.Duration // from the first attempt
	Initial, Max     time.Duration // nth wait: uniform in 0 … min(Max, Initial × 2^(n−1))
	HonourRetryAfter time.Duration // a sink's Retry-After is clamped to 1 s … this
}

// Route says which requests, and what happens to them.
type Route struct {
	Name       string
	Hosts      []string // lower case, without port; empty: any
	Methods    []string // empty: any
	Path       string   // exact, or
	PathPrefix string   // "/" where the policy names no path
	Mode       Mode
	Stream     string
	MaxBody    int64
	WaitMax    time.Duration // the longest Prefer: wait=N that is honoured
}

// Mode is what a route does with a request.
type Mode string

// ModeBuffer stores a request and answers 202; the other modes are not built yet.
const ModeBuffer Mode = "buffer"

// Stream returns the stream of that name, or nil.
func (s *Set) Stream(name string) *Stream {
	return find(s.Streams, name, func(x *Stream) string { return x.Name })
}

// Sink returns the sink of that name, or nil.
func (s *Set) Sink(name string) *Sink {
	return find(s.Sinks, name, func(x *Sink) string { return x.Name })
}

// Drain returns the drain of that name, or nil.
func (s *Set) Drain(name string) *Drain {
	return find(s.Drains, name, func(x *Drain) string { return x.Name })
}

// Interval returns the time interval of that name, or nil.
func (s *Set) Interval(name string) *Interval {
	return find(s.Intervals, name, func(x *Interval) string { return x.Name })
}

func find[T any](items []T, name string, nameOf func(*T) string) *T {
	for i := range items {
		if nameOf(&items[i]) == name {
			return &items[i]
		}
	}
	return nil
}
