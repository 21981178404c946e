package admin

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"forebay/limiter"
	"forebay/policies"
)

// Stream is one element of GET /api/v1/streams.
type Stream struct {
	Name             string `json:"name"`
	State            string `json:"state"` // open, closed, orphaned
	Messages         uint64 `json:"messages"`
	Bytes            int64  `json:"bytes"`
	CapacityBytes    Bound  `json:"capacity_bytes"`
	FullAt           Time   `json:"full_at"` // null: not in sight
	OldestAcceptedAt Time   `json:"oldest_accepted_at"`
	AcceptedTotal    uint64 `json:"accepted_total"`
	Closed           *Hold  `json:"closed"` // null while it is open
}

// Hold is what an operator holds back, and for how long.
type Hold struct {
	Until  Time   `json:"until"` // null: until it is undone
	Reason string `json:"reason"`
}

// Drain is one element of GET /api/v1/drains.
type Drain struct {
	Name             string    `json:"name"`
	Stream           string    `json:"stream"`
	Sink             string    `json:"sink"`
	State            string    `json:"state"` // running, paused, blocked, idle, orphaned
	Pending          uint64    `json:"pending"`
	InFlight         uint64    `json:"in_flight"`
	Scheduled        uint64    `json:"scheduled"`
	Dead             uint64    `json:"dead"`
	DeliveredTotal   uint64    `json:"delivered_total"`
	PermittedRate    Rate      `json:"permitted_rate"`
	ActualRate       float64   `json:"actual_rate"`
	Binding          string    `json:"binding"`
	EmptyAt          Time      `json:"empty_at"`
	OldestAcceptedAt Time      `json:"oldest_accepted_at"`
	Override         *Override `json:"override"`
	Paused           *Hold     `json:"paused"` // null while it is not
	NextChange       *Change   `json:"next_change"`
}

// Buffered is what the drain has not finished.
func (d Drain) Buffered() uint64 { return d.Pending + d.InFlight + d.Scheduled }

// Override is an operator's rate that replaces the schedule until it expires.
type Override struct {
	Rate   Rate   `json:"rate"`
	Until  Time   `json:"until"`
	Reason string `json:"reason"`
}

// Change is the next moment at which a rate may differ.
type Change struct {
	At      Time   `json:"at"`
	Rate    Rate   `json:"rate"`
	Because string `json:"because"`
}

// Audit is the answer of GET /api/v1/audit.
type Audit struct {
	Balanced bool      `json:"balanced"`
	Drains   []Account `json:"drains"`
}

// Account is the balance of one stream with one drain.
type Account struct {
	Stream    string `json:"stream"`
	Drain     string `json:"drain"`
	Accepted  uint64 `json:"accepted"`
	Delivered uint64 `json:"delivered"`
	Expired   uint64 `json:"expired"`
	Cancelled uint64 `json:"cancelled"`
	Dead      uint64 `json:"dead"`
	Buffered  uint64 `json:"buffered"`
	Imbalance int64  `json:"imbalance"`
}

// Policy is the answer of GET /api/v1/policy.
type Policy struct {
	Hash     string   `json:"hash"`
	LoadedAt Time     `json:"loaded_at"`
	Paths    []string `json:"paths"`
	Routes   int      `json:"routes"`
	Streams  int      `json:"streams"`
	Drains   int      `json:"drains"`
	Sinks    int      `json:"sinks"`
}

// Route is one element of GET /api/v1/routes.
type Route struct {
	Name         string   `json:"name"`
	Mode         string   `json:"mode"`
	Hosts        []string `json:"hosts"`
	Methods      []string `json:"methods"`
	Path         string   `json:"path"`
	PathPrefix   string   `json:"path_prefix"`
	Stream       string   `json:"stream"` // empty: nothing is stored
	Sink         string   `json:"sink"`   // that requests are sent to live; empty: none
	Auth         []string `json:"auth"`
	Limits       []string `json:"limits"`
	Enforcement  string   `json:"enforcement"` // of limits: enforce, or shadow: they are counted alone
	MaxBodyBytes int64    `json:"max_body_bytes"`
}

// Sink is one element of GET /api/v1/sinks.
type Sink struct {
	Name              string    `json:"name"`
	Kind              string    `json:"kind"`
	State             string    `json:"state"` // open, paused, breaker-open, breaker-half-open, kafka-lag, slow-start
	BudgetRate        Rate      `json:"budget_rate"`
	Burst             int       `json:"burst"`
	ConcurrencyLimit  int       `json:"concurrency_limit"`
	InFlight          int       `json:"in_flight"`
	LiveRequestsTotal int64     `json:"live_requests_total"`
	LiveWaiting       int       `json:"live_waiting"`  // requests that wait for their turn
	Breaker           string    `json:"breaker"`       // closed, open, half_open
	BreakerUntil      Time      `json:"breaker_until"` // when an open one lets a probe through
	Paused            *Hold     `json:"paused"`        // null while it is not
	PausedUntil       Time      `json:"paused_until"`  // null: not paused, or until it is undone
	URLs              []SinkURL `json:"urls"`          // brokers are host:port
	ConsumerLag       *Lag      `json:"consumer_lag"`  // null: the sink has no max_consumer_lag
}

// Lag is how far the consumers behind a sink lag.
type Lag struct {
	Group       string `json:"group"`
	MaxMessages int    `json:"max_messages"` // that it may
	Messages    int64  `json:"messages"`     // at the last reading
	ReadAt      Time   `json:"read_at"`      // null: it was never read
	Holding     bool   `json:"holding"`      // nothing is sent
	Error       string `json:"error"`        // why there was no reading since; empty: nothing is wrong
}

// SinkURL is one of the places that a sink is made of.
type SinkURL struct {
	URL          string `json:"url"`
	InFlight     int    `json:"in_flight"`
	RestingUntil Time   `json:"resting_until"` // null: it does not rest
}

// Limit is one element of GET /api/v1/limits. Rates and bursts are in requests.
type Limit struct {
	Name              string   `json:"name"`
	Rate              Rate     `json:"rate"`
	Burst             int      `json:"burst"`
	Key               []string `json:"key"` // as the policy writes it; empty: one bucket for all
	Scope             string   `json:"scope"`
	TrackedKeys       int      `json:"tracked_keys"`
	MaxKeys           int      `json:"max_keys"`
	AllowedTotal      uint64   `json:"allowed_total"`
	DeniedTotal       uint64   `json:"denied_total"`
	ShadowDeniedTotal uint64   `json:"shadow_denied_total"`
	EvictionsTotal    uint64   `json:"evictions_total"`
}

// Source is one element of GET /api/v1/sources. Counts are of records, totals since the start.
type Source struct {
	Name         string            `json:"name"`
	Kind         string            `json:"kind"` // kafka
	Stream       string            `json:"stream"`
	Group        string            `json:"group"`
	Topics       []string          `json:"topics"`
	State        string            `json:"state"`         // connecting, running, paused, stopped, failing
	PausedReason string            `json:"paused_reason"` // buffer-full, disk-full, dead-letters-full, overloaded, stream-closed; empty: it is not paused
	Lag          int64             `json:"lag"`           // not stored yet, of the partitions that it has
	StoredTotal  uint64            `json:"stored_total"`
	RefusedTotal uint64            `json:"refused_total"` // written to the topic of on_refused
	LastError    string            `json:"last_error"`    // empty: none since it last ran well
	LastErrorAt  Time              `json:"last_error_at"`
	Partitions   []SourcePartition `json:"partitions"` // that the group gave it
}

// SourcePartition is where a source stands with one partition.
type SourcePartition struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Next      int64  `json:"next"` // the offset of the first record that is not stored
	Lag       int64  `json:"lag"`
	Stopped   string `json:"stopped"` // why the record at next cannot be stored; empty: it is read on
}

// Mistake is one thing that is wrong with a policy. File is empty and Line 0
// where it is the change that is refused, not a line of a file.
type Mistake struct {
	File    string `json:"file"`
	Line    int    `json:"line"`
	Column  int    `json:"column"`
	Message string `json:"message"`
	Hint    string `json:"hint"`
}

func (m Mistake) Error() string {
	if m.File == "" {
		return m.Message
	}
	return fmt.Sprintf("%s:%d:%d: error: %s", m.File, m.Line, m.Column, m.Message)
}

// Refused is a reload that changed nothing, with every reason.
type Refused []Mistake

func (r Refused) Error() string {
	if len(r) == 1 {
		return r[0].Error()
	}
	return fmt.Sprintf("%d mistakes, the first: %v", len(r), r[0])
}

// Time is a moment in JSON: RFC 3339 in UTC with milliseconds, and null for
// the zero time.
type Time struct{ time.Time }

const timeForm = "2006-01-02T15:04:05.000Z07:00"

// MarshalJSON implements [json.Marshaler].
func (t Time) MarshalJSON() ([]byte, error) {
	if t.IsZero() {
		return []byte("null"), nil
	}
	return json.Marshal(t.UTC().Format(timeForm))
}

// UnmarshalJSON implements [json.Unmarshaler].
func (t *Time) UnmarshalJSON(raw []byte) error {
	if string(raw) == "null" {
		t.Time = time.Time{}
		return nil
	}
	return t.Time.UnmarshalJSON(raw)
}

// Rate is in messages a second: a number in JSON, or "unlimited".
type Rate limiter.Rate

// String is for people: four digits, in the unit that they stand well in, and as
// a policy could have it.
func (r Rate) String() string {
	switch v := float64(r); {
	case limiter.Rate(r) == limiter.Unlimited:
		return "unlimited"
	case v >= 0.1 || v == 0:
		return fourDigits(v) + "/s"
	case v*60 >= 0.1:
		return fourDigits(v*60) + "/m"
	default:
		return fourDigits(v*3600) + "/h"
	}
}

func fourDigits(v float64) string {
	digits := 3 // behind the point, of a number below 10
	for limit := 10.0; v >= limit && digits > 0; limit *= 10 {
		digits--
	}
	text := strconv.FormatFloat(v, 'f', digits, 64)
	if digits > 0 {
		text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	return text
}

// MarshalJSON implements [json.Marshaler].
func (r Rate) MarshalJSON() ([]byte, error) {
	if limiter.Rate(r) == limiter.Unlimited {
		return []byte(`"unlimited"`), nil
	}
	return json.Marshal(float64(r))
}

// UnmarshalJSON implements [json.Unmarshaler]. It also takes a rate as policies
// write it.
func (r *Rate) UnmarshalJSON(raw []byte) error {
	var written string
	if json.Unmarshal(raw, &written) == nil {
		rate, err := policies.ParseRate(written)
		*r = Rate(rate)
		return err
	}
	var n float64
	if json.Unmarshal(raw, &n) != nil {
		return fmt.Errorf("%s is no rate", raw)
	}
	digits := 8
	if n < 1 {
		digits = 16 // 1/h has more digits than anybody writes
	}
	_, err := policies.ParseRate(strconv.FormatFloat(n, 'f', digits, 64))
	*r = Rate(n)
	return err
}

// Bound is a number of bytes in JSON, or "unlimited" where it is 0: the disk
// alone bounds it.
type Bound int64

// MarshalJSON implements [json.Marshaler].
func (b Bound) MarshalJSON() ([]byte, error) {
	if b == 0 {
		return []byte(`"unlimited"`), nil
	}
	return json.Marshal(int64(b))
}

// UnmarshalJSON implements [json.Unmarshaler].
func (b *Bound) UnmarshalJSON(raw []byte) error {
	if string(raw) == `"unlimited"` {
		*b = 0
		return nil
	}
	return json.Unmarshal(raw, (*int64)(b))
}
