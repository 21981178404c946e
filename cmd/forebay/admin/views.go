package admin

import "time"

// Page is a part of a list. Next is where the following part begins; null at
// the end of what cannot grow there.
type Page[T any] struct {
	Items []T     `json:"items"`
	Next  *string `json:"next"`
}

// Event is one line of the operator log.
type Event struct {
	ID     int64  `json:"id"`
	At     Time   `json:"at"`
	Kind   string `json:"kind"`
	Object string `json:"object"`
	Actor  string `json:"actor"`
	Reason string `json:"reason"`
	Detail string `json:"detail"`
}

// Why is the answer of GET /api/v1/drains/D/why: what keeps a drain from going
// faster.
type Why struct {
	Drain       string       `json:"drain"`
	Rate        Rate         `json:"rate"`
	Binding     string       `json:"binding"`
	Constraints []Constraint `json:"constraints"`
	NextChange  *Change      `json:"next_change"`
	Head        *Head        `json:"head"`              // null: nothing waits, or it is not known
	Message     *Standing    `json:"message,omitempty"` // the one that was asked for, while the drain has not finished it
	Gathering   []Gathering  `json:"gathering"`
}

// Constraint is one of the rates of which the least holds.
type Constraint struct {
	Name   string `json:"name"`
	Rate   Rate   `json:"rate"`
	Detail string `json:"detail"`
	Until  Time   `json:"until"`
}

// Gathering is a file that a drain's messages are written to and that has no name yet.
type Gathering struct {
	Place    string `json:"place"`
	Messages int    `json:"messages"`
	Bytes    int64  `json:"bytes"` // as they lie there
	Since    Time   `json:"since"`
	Ending   bool   `json:"ending"` // it is complete, and gets its name
}

// Head is the oldest message that a drain has not finished.
type Head struct {
	ID       string `json:"id"`
	State    string `json:"state"`
	WaitsFor string `json:"waits_for"` // a constraint, "retry at" and a time, "message" and an id, or "the sink's answer"
}

// Standing is where a message stands with a drain.
type Standing struct {
	Head
	Ahead uint64 `json:"ahead"` // messages that leave first, without those in flight
}

// Dead is one dead letter.
type Dead struct {
	ID             string `json:"id"`
	Stream         string `json:"stream"`
	Drain          string `json:"drain"`
	Key            string `json:"key"`
	Reason         string `json:"reason"`
	Status         int    `json:"status"`
	Attempts       int    `json:"attempts"`
	LastError      string `json:"last_error"`
	AcceptedAt     Time   `json:"accepted_at"`
	FirstAttemptAt Time   `json:"first_attempt_at"`
	BuriedAt       Time   `json:"buried_at"`
}

// DeadMessage is a dead letter with the message itself.
type DeadMessage struct {
	Dead
	Method string      `json:"method"`
	Target string      `json:"target"`
	Header [][2]string `json:"header"`
	Body   []byte      `json:"body_base64"`
}

// DeadPage says which part of a list of dead letters: after a cursor, at most
// so many.
type DeadPage struct {
	After string
	Limit int
}

// MessagesQuery says which messages of a stream: those of an ordering key that
// are unfinished, or those that one request stored.
type MessagesQuery struct {
	Stream         string
	Key            string
	IdempotencyKey string // as sent; empty where Key is asked for
}

// WindowsQuery says whose windows, and when. An empty drain means all; the zero
// time is now.
type WindowsQuery struct {
	Drain string
	From  time.Time
	For   time.Duration
}

// Cancelled is the answer of POST /api/v1/streams/S/cancel, and of a drop.
type Cancelled struct {
	Cancelled int `json:"cancelled"`
}

// Replayed is the answer of POST /api/v1/dead/replay.
type Replayed struct {
	Drain    string `json:"drain"`
	Matched  int    `json:"matched"`
	Replayed int    `json:"replayed"`
	DryRun   bool   `json:"dry_run"`
}

// Dropped is the answer of DELETE /api/v1/dead.
type Dropped struct {
	Drain   string `json:"drain"`
	Matched int    `json:"matched"`
	Dropped int    `json:"dropped"`
	DryRun  bool   `json:"dry_run"`
}
