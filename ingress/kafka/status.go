package kafka

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"
)

// State is what a source does.
type State string

// The states.
const (
	Connecting State = "connecting" // nothing is known of the cluster yet
	Running    State = "running"
	Paused     State = "paused"  // the buffer takes nothing: see Reason
	Stopped    State = "stopped" // a partition has a record that cannot be stored
	Failing    State = "failing" // see LastError
)

// States lists every State.
func States() []State { return []State{Connecting, Running, Paused, Stopped, Failing} }

// Reason is why a source is paused.
type Reason string

// The reasons, which are those of an answer 503.
const (
	BufferFull Reason = "buffer-full"
	DiskFull   Reason = "disk-full"
	DeadFull   Reason = "dead-letters-full"
	Overloaded Reason = "overloaded"
	Closed     Reason = "stream-closed"
)

// Reasons lists every Reason.
func Reasons() []Reason { return []Reason{BufferFull, DiskFull, DeadFull, Overloaded, Closed} }

// Status is where a source stands.
type Status struct {
	Name, Stream string
	Group        string
	Topics       []string
	State        State
	Reason       Reason // while it is paused
	LastError    string // empty: none since it last ran well
	LastErrorAt  time.Time
	Stored       uint64 // records, since the start
	Refused      uint64 // those that went to the topic of on_refused
	Stopped      uint64 // those that stopped a partition
	Errors       uint64 // at the cluster, since the start
	Lag          int64  // records that are not stored, of all partitions that it has
	Partitions   []Partition
}

// Partition is where a source stands with one partition that the group gave it.
type Partition struct {
	Topic     string
	Partition int32
	Next      int64  // offset of the first record that is not stored
	End       int64  // the offset after the last record; -1: not known yet
	Stopped   string // why the record at Next cannot be stored; empty: it is read on
}

// Lag is how many records are not stored.
func (p *Partition) Lag() int64 {
	if p.End < 0 {
		return 0
	}
	return max(0, p.End-p.Next)
}

// counts outlive a reader that a reload replaces.
type counts struct {
	stored, refused, stopped, errors atomic.Uint64
}

func newCounts() *counts { return &counts{} }

func (r *reader) status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := Status{
		Name: r.source.Name, Stream: r.source.Stream, Group: r.source.Kafka.Group, Topics: r.source.Kafka.Topics, State: r.stateLocked(), Reason: r.paused,
		LastError: r.lastError, LastErrorAt: r.lastErrorAt,
		Stored: r.counts.stored.Load(), Refused: r.counts.refused.Load(), Stopped: r.counts.stopped.Load(), Errors: r.counts.errors.Load(),
	}
	for _, p := range r.parts {
		v := Partition{Topic: p.topic, Partition: p.n, Next: p.next, End: p.end}
		if p.stopped != nil {
			v.Stopped = p.stopped.detail
		}
		s.Lag += v.Lag()
		s.Partitions = append(s.Partitions, v)
	}
	slices.SortFunc(s.Partitions, func(a, b Partition) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return s
}

// stateLocked is the state for who holds mu.
func (r *reader) stateLocked() State {
	switch {
	case r.paused != "":
		return Paused
	case r.stoppedAny():
		return Stopped
	case len(r.troubles) > 0:
		return Failing
	case !r.connected:
		return Connecting
	default:
		return Running
	}
}

func (r *reader) stoppedAny() bool {
	for _, p := range r.parts {
		if p.stopped != nil {
			return true
		}
	}
	return false
}

// sayAgain is how often the log hears of trouble at the same place.
const sayAgain = time.Minute

// fail takes down that something goes wrong at a place, until well says that it does not.
// The log hears of it once, and once a minute while it lasts or comes again.
func (r *reader) fail(place, text string) {
	now := time.Now()
	r.mu.Lock()
	r.counts.errors.Add(1)
	r.lastError, r.lastErrorAt = text, now
	r.troubles[place] = text
	say := now.Sub(r.said[place]) >= sayAgain
	if say {
		r.said[place] = now
	}
	r.mu.Unlock()
	if say {
		r.log.Warn("source fails, and tries again", "at", place, "err", text)
	}
}

// well takes back trouble at a place, if there was some.
func (r *reader) well(place string) {
	r.mu.Lock()
	_, was := r.troubles[place]
	delete(r.troubles, place)
	if was && len(r.troubles) == 0 {
		r.lastError, r.lastErrorAt = "", time.Time{}
	}
	r.mu.Unlock()
	if was {
		r.log.Info("source goes on", "at", place)
	}
}
