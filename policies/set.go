package policies

import (
	"slices"
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
	Sources []Source
	Auth    []Auth
	Limits  []Limit
	// Intervals in the order of the files.
	Intervals []Interval

	router router
	loose  *router
	places map[object]place // where each object is defined, for warnings
	keys   []string         // the header fields that hold callers' keys
}

// HoldsKey reports whether a header field, its name in canonical form, is one that
// callers send a key in.
func (s *Set) HoldsKey(name string) bool { return slices.Contains(s.keys, name) }

// SameKeyFields reports whether callers send keys in the same header fields.
func (s *Set) SameKeyFields(other *Set) bool { return slices.Equal(s.keys, other.keys) }

// Stream is a durable sequence of messages.
type Stream struct {
	Name             string
	MaxBytes         int64 // 0: the disk's bound alone
	MaxMessageBytes  int64
	KeepDelivered    time.Duration
	KeepResultsBytes int64         // what stored answers of sinks may hold; the newest stay
	Retention        time.Duration // the age at which what is unfinished ends as OnRetention says
	OnRetention      Ending        // EndDead or EndExpire
	DeadKeep         time.Duration // how long dead letters are kept
	DeadMaxBytes     int64         // what they may hold; at it the stream takes nothing in
	OrderingKey      Key           // zero: no order is kept
	CancelKey        CancelKeys    // zero: the ordering key
	WhenFull         Fullness

	Tenant   Key // not built yet, like Priority
	Priority Priority
}

// Fullness is what becomes of new messages when a stream is full.
type Fullness string

// The answers of a full stream. FullShed is not built yet.
const (
	FullReject Fullness = "reject"
	FullShed   Fullness = "shed_lowest_priority"
)

// Priority says which messages of a stream go first.
type Priority struct {
	Default int
	Header  string // in canonical form; empty: callers name none
	Allowed []int  // nil: any
}

// Ending is what becomes of a message that has waited too long.
type Ending string

// The endings. EndDeliver is none: the message stays, and is delivered late.
const (
	EndDead    Ending = "dead"
	EndExpire  Ending = "expire"
	EndDeliver Ending = "deliver"
)

// Drain is one reader of a stream.
type Drain struct {
	Name     string
	Stream   string
	Sink     string
	Schedule Schedule
	Retry    Retry
	Deadline Deadline
	// FromOldest says where a drain that is new to its stream starts: at the oldest
	// message that is kept, or with the next to come.
	FromOldest bool

	// Weight is what it has of its sink's budget, to the weights of others that wait too.
	Weight   int
	Priority int // not built yet
}

// Deadline is how long a message may wait for one drain.
type Deadline struct {
	MaxDelay time.Duration // from its acceptance; 0: no deadline
	OnExpire Ending

	UrgentBefore time.Duration // how long before MaxDelay messages are urgent; 0: never
	UrgentRate   limiter.Rate  // what they leave at, at least
}

// Retry bounds how long and how often a message is tried again.
type Retry struct {
	MaxAttempts      int           // answers about the message
	MaxAge           time.Duration // from the first attempt
	Initial, Max     time.Duration // nth wait: uniform in 0 … min(Max, Initial × 2^(n−1))
	HonourRetryAfter time.Duration // a sink's Retry-After is clamped to 1 s … this
	Budget           float64       // share of the permitted rate for retries while first attempts wait; up to 1
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
	WaitFor    string        // the drain whose result it waits for; empty: all of them
	Split      Split
	// MaxInflated bounds what a compressed body that is split may hold.
	MaxInflated int64
	Idempotency Idempotency
	// StoreResult is how much of a sink's answer is kept for the receipt; 0: its
	// status alone.
	StoreResult int64

	Sink       string        // that requests are sent to live
	HoldUpTo   time.Duration // the longest wait for the sink
	MaxWaiting int           // how many requests wait so

	Auth   []*Auth // one of them has to know the caller; nil: anybody
	Limits []string
	Shadow bool // limits are counted, not enforced
	Timing bool // callers may say when
}

// Split is how a body is cut into messages.
type Split string

// The ways to split a body. SplitNone makes it one message.
const (
	SplitNone      Split = ""
	SplitNDJSON    Split = "ndjson"
	SplitJSONArray Split = "json_array"
	SplitLines     Split = "lines"
	SplitBulk      Split = "bulk" // Elasticsearch's: an action and its document, a line each
)

// Idempotency is how a request that is sent again is known. A key is honoured
// wherever it is sent; its scope is the route.
type Idempotency struct {
	Header   string // in canonical form
	Required bool
	TTL      time.Duration
}

// Mode is what a route does with a request.
type Mode string

// The modes.
const (
	ModeBuffer   Mode = "buffer"   // store it and answer 202
	ModePass     Mode = "pass"     // send it to the sink if that has room
	ModeHold     Mode = "hold"     // wait for room in the sink, then send it
	ModeOverflow Mode = "overflow" // send it if there is room, or store it
)

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

// Source returns the source of that name, or nil.
func (s *Set) Source(name string) *Source {
	return find(s.Sources, name, func(x *Source) string { return x.Name })
}

// Limit returns the limit of that name, or nil.
func (s *Set) Limit(name string) *Limit {
	return find(s.Limits, name, func(x *Limit) string { return x.Name })
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
