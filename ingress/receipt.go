package ingress

import (
	"bytes"
	"cmp"
	"math"
	"net/http"
	"time"

	"forebay/buffer"
)

// Receipt is the caller's handle on an accepted message, as JSON has it. All
// its fields are always there; what does not apply is null.
type Receipt struct {
	ID     string       `json:"id"`
	Stream string       `json:"stream"`
	State  buffer.State `json:"state"` // of the least finished drain
	// Position and estimates repeat those of the drain that is latest.
	Position      *uint64   `json:"position"` // messages that leave first; null while not waiting
	PositionExact bool      `json:"position_exact"`
	ETA           Timestamp `json:"eta"`
	ETAP90        Timestamp `json:"eta_p90"`  // nine in ten are delivered by then
	ETANote       *string   `json:"eta_note"` // why there is no eta while one waits
	AcceptedAt    Timestamp `json:"accepted_at"`
	Deadline      Timestamp `json:"deadline"`
	// Drains are in the order of the policy. Never null.
	Drains []DrainReceipt `json:"drains"`
}

// DrainReceipt is where a message stands with one drain.
type DrainReceipt struct {
	Drain         string       `json:"drain"`
	State         buffer.State `json:"state"`
	Position      *uint64      `json:"position"`
	ETA           Timestamp    `json:"eta"`
	ETAP90        Timestamp    `json:"eta_p90"`
	ETANote       *string      `json:"eta_note"`
	Attempts      int          `json:"attempts"`
	NextAttemptAt Timestamp    `json:"next_attempt_at"` // while scheduled
	LastError     *string      `json:"last_error"`
	Result        *Result      `json:"result"`      // the sink's answer, once final
	Reason        *string      `json:"reason"`      // why it is dead
	FinishedAt    Timestamp    `json:"finished_at"` // when it became final
}

// Result is what a sink answered. Headers and Body are null where only the
// status is kept; a body that is no text is in BodyBase64 instead.
type Result struct {
	Status    int         `json:"status"`
	Headers   http.Header `json:"headers"`
	Body      *string     `json:"body"`
	Truncated bool        `json:"truncated"`

	BodyBase64 []byte `json:"body_base64,omitempty"`
}

// Timestamp is a time as the contract writes it: RFC 3339 with milliseconds,
// UTC. The zero time is null.
type Timestamp struct{ time.Time }

// MarshalJSON implements json.Marshaler.
func (t Timestamp) MarshalJSON() ([]byte, error) { return appendTimestamp(nil, t), nil }

// UnmarshalJSON implements json.Unmarshaler.
func (t *Timestamp) UnmarshalJSON(data []byte) error {
	if bytes.Equal(data, []byte("null")) {
		*t = Timestamp{}
		return nil
	}
	return t.Time.UnmarshalJSON(data)
}

// outlook is what a receipt says of the future. Both are asked for every receipt.
type outlook struct {
	eta      etaFunc
	maxDelay func(drain string) time.Duration // 0: the drain has no deadline
}

// newReceipt points into st.
func newReceipt(id string, st *buffer.Status, now time.Time, o *outlook) Receipt {
	r := Receipt{
		ID: id, Stream: st.Stream, State: st.State(), PositionExact: true,
		AcceptedAt: Timestamp{st.AcceptedAt},
		Drains:     make([]DrainReceipt, len(st.Drains)),
	}
	for i := range st.Drains {
		d := &st.Drains[i]
		r.Drains[i] = newDrainReceipt(d, now, o.eta)
		if within := o.maxDelay(d.Drain); within > 0 {
			r.due(st.AcceptedAt.Add(within))
		}
	}
	if !st.Deadline.IsZero() {
		r.due(st.Deadline)
	}
	r.summarise()
	return r
}

// due notes the deadline of one drain: the receipt tells the earliest.
func (r *Receipt) due(at time.Time) {
	if r.Deadline.IsZero() || at.Before(r.Deadline.Time) {
		r.Deadline = Timestamp{at}
	}
}

type etaFunc func(drain string, now, due time.Time, ahead uint64) (eta, p90 time.Time, note string)

func newDrainReceipt(d *buffer.DrainStatus, now time.Time, eta etaFunc) DrainReceipt {
	r := DrainReceipt{Drain: d.Drain, State: d.State, Attempts: d.Attempts}
	if d.Error != "" {
		r.LastError = &d.Error
	}
	switch {
	case d.State.Final():
		r.FinishedAt = Timestamp{d.At}
		r.Result = newResult(d)
		if d.Reason != "" {
			reason := string(d.Reason)
			r.Reason = &reason
		}
	case d.State == buffer.Delivering:
		// It left: what is to come is an answer, as soon as the sink gives it.
		r.ETA, r.ETAP90 = Timestamp{now}, Timestamp{now.Add(time.Second)}
	default:
		r.wait(d, now, eta)
	}
	return r
}

// wait fills in what is said of a message that waits for its turn, or for the
// time of its next attempt, whichever is later.
func (r *DrainReceipt) wait(d *buffer.DrainStatus, now time.Time, eta etaFunc) {
	r.Position = &d.Ahead
	var due time.Time
	if d.State == buffer.Scheduled {
		r.NextAttemptAt = Timestamp{d.Due}
		due = d.Due
	}
	at, p90, note := eta(d.Drain, now, due, d.Ahead)
	if at.IsZero() {
		why := cmp.Or(note, "no rate is in sight") // a copy: note itself stays off the heap
		r.ETANote = &why
		return
	}
	if p90.Before(at) {
		p90 = at
	}
	r.ETA, r.ETAP90 = Timestamp{at}, Timestamp{p90}
}

// summarise copies position and estimates from the drain that is latest; one
// without an estimate is later than any with one.
func (r *Receipt) summarise() {
	var latest *DrainReceipt
	for i := range r.Drains {
		d := &r.Drains[i]
		if !d.State.Final() && (latest == nil || d.later(latest)) {
			latest = d
		}
	}
	if latest != nil {
		r.Position, r.ETA, r.ETAP90, r.ETANote = latest.Position, latest.ETA, latest.ETAP90, latest.ETANote
	} else if len(r.Drains) == 0 {
		note := "no drain reads this stream yet"
		r.ETANote = &note
	}
}

func (r *DrainReceipt) later(than *DrainReceipt) bool {
	if r.ETA.IsZero() || than.ETA.IsZero() {
		return r.ETA.IsZero() && !than.ETA.IsZero()
	}
	return r.ETA.After(than.ETA.Time)
}

// retryAfter is the whole seconds after which asking again is worth it.
func (r *Receipt) retryAfter(now time.Time) int {
	if r.State.Final() {
		return 1
	}
	return retrySeconds(r.ETA.Time, now)
}

// retrySeconds is clamp(ceil(eta − now), 1, 300), and 60 without an eta.
func retrySeconds(eta, now time.Time) int {
	if eta.IsZero() {
		return 60
	}
	return int(min(max(math.Ceil(eta.Sub(now).Seconds()), 1), 300))
}
