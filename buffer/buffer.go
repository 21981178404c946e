package buffer

import (
	"context"
	"errors"
	"time"
)

// Errors a caller branches on. Everything else is a failure of the engine and
// means that it stopped.
var (
	// ErrBufferFull means that the stream reached its max_bytes.
	ErrBufferFull = errors.New("the stream is at its max_bytes")
	// ErrDiskFull means that no space could be reserved for another segment.
	ErrDiskFull = errors.New("no disk space left to reserve a segment")
	// ErrOverloaded means that the messages being committed hold all of the append memory.
	ErrOverloaded = errors.New("append memory is in use")
	// ErrStalled means that a commit has taken over two seconds, and that nothing of
	// this append was stored.
	ErrStalled = errors.New("a commit takes long, nothing was stored")
	// ErrUndecided means that the append's own commit has taken over two seconds:
	// its messages may be stored yet. An idempotency key makes it safe to try again.
	ErrUndecided = errors.New("the commit takes long, whether it stores is not known")
	// ErrTooLarge means that one message is over its stream's max_message_bytes.
	ErrTooLarge = errors.New("message is over max_message_bytes")
	// ErrNoStream and ErrNoDrain mean a name that Configure has not been given.
	ErrNoStream = errors.New("no such stream")
	ErrNoDrain  = errors.New("no such drain")
	// ErrNoMessage means an id or offset that was never given out.
	ErrNoMessage = errors.New("no such message")
	// ErrGone means a message that was finished longer than keep_delivered ago.
	ErrGone = errors.New("message is past keep_delivered")
	// ErrDelivering and ErrFinal are the reasons that a cancel has no effect.
	ErrDelivering = errors.New("message is being delivered")
	ErrFinal      = errors.New("message is in a final state")
	// ErrMismatch means that the idempotency key was used for another request.
	ErrMismatch = errors.New("idempotency key was used for another request")
	// ErrInProgress means that the first append with the key is still being stored.
	ErrInProgress = errors.New("the first request with this idempotency key is still being stored")
	// ErrDeadFull means that the stream's dead letters are at their bound.
	ErrDeadFull = errors.New("the stream's dead letters are at their max_bytes")
	// ErrBroken means that a write or a sync failed, for good: the process has
	// to end, and the next start recovers.
	ErrBroken = errors.New("buffer stopped after a failed write or sync")
	// ErrClosed means that Close was called.
	ErrClosed = errors.New("buffer is closed")
)

// Buffer is what ingress and drains rely on. All methods are safe for
// concurrent use. Times are arguments; an engine never reads the clock to
// decide when a message is due.
type Buffer interface {
	// Append stores msgs in order, all or none, and returns once they are
	// durable: the fsync that covers them has returned. It blocks for a commit
	// and keeps nothing of msgs afterwards. A cancelled ctx ends the wait, not
	// the write: the messages may still become durable. So may they after
	// ErrUndecided, the answer where the disk does not sync in seconds.
	Append(ctx context.Context, stream string, now time.Time, msgs []Message) (Accepted, error)

	// Take hands at most max messages to a drain: those due again at now first,
	// then untried ones, each in arrival order. Of messages with the same key
	// only the first unfinished one is ever handed out. They are in flight, in memory
	// alone, until Ack, Release, Bury or Return. Nobody writes to a message that was
	// taken: its body may be a part of what the engine keeps in memory. Take may read the disk. When it
	// returns fewer than max, next is the earliest time at which a scheduled
	// message becomes due (zero: none); what arrives before is told by Wake.
	Take(drain string, now time.Time, max int) (ds []Delivery, next time.Time, err error)

	// Return puts a message back as if it had not been taken. Nothing is stored.
	Return(drain string, offset uint64)

	// Ack ends a message as delivered; durable within 100 ms, does not block.
	Ack(drain string, offset uint64, r Result)

	// Release schedules another attempt; attempts and due time are durable
	// within 100 ms. It does not block.
	Release(drain string, offset uint64, r Retry)

	// Bury ends a message as dead; durable within 100 ms. It does not block.
	Bury(drain string, offset uint64, why Reason, r Result)

	// Wake returns a one-slot channel that is signalled whenever Take may have
	// more to give: after an append, a return, a release. One receiver a drain.
	// It is nil for an unknown drain.
	Wake(drain string) <-chan struct{}
}

// Receipts is the capability of finding one message by its handle.
type Receipts interface {
	// ID returns the handle of a message: 26 characters that cannot be guessed.
	ID(ref Ref) string
	// Ref is the reverse. A forged id is ErrNoMessage.
	Ref(id string) (Ref, error)
	// Find returns where a message stands with every drain. It may read the
	// disk. ErrNoMessage: never stored. ErrGone: past keep_delivered.
	Find(ref Ref, now time.Time) (Status, error)
	// Owner returns whose a message is, 0 where whoever has its id may see it. It may
	// read the disk. ErrNoMessage: never stored. Past keep_delivered it may be 0.
	Owner(ref Ref) (Owner, error)
	// Cancel ends a message with every drain where it waits, and returns once
	// that is durable. ErrDelivering or ErrFinal where it waits with none.
	Cancel(ctx context.Context, ref Ref, now time.Time) error
	// Watch returns a channel that is closed at the next change of a message's
	// state with any drain; stop releases it.
	Watch(ref Ref) (changed <-chan struct{}, stop func())
}

// Once is the capability of appending what is sent again only once.
type Once interface {
	// AppendOnce is Append, unless the key was seen within its TTL: then nothing
	// is stored, the first append's place is returned, and replayed is true. The
	// record of the key is in the same commit as the messages. While the first
	// append is under way it waits for at most a second, then ErrInProgress.
	// ErrMismatch: the key came with other content.
	AppendOnce(ctx context.Context, stream string, now time.Time, msgs []Message, key OnceKey) (a Accepted, replayed bool, err error)
	// Repeated is AppendOnce where the key was seen; else it does nothing, and repeated
	// is false.
	Repeated(ctx context.Context, stream string, now time.Time, key OnceKey) (a Accepted, repeated bool, err error)
	// Lookup returns what AppendOnce said of a key, as long as it would say it
	// again at now. It may read the disk. ErrNoMessage: never, past the TTL, or the
	// first append is still under way. ErrNoStream: no such stream is stored.
	Lookup(ctx context.Context, stream string, key [16]byte, now time.Time) (Accepted, error)
}

// Bookmarks is the capability of keeping how far a source has read, together with what
// it has read: both are durable in one commit, or neither is.
type Bookmarks interface {
	// AppendFrom is Append, and sets bookmarks of a source in the same commit; where
	// that refuses the messages, the bookmarks stay as they were. Without messages it sets the
	// bookmarks alone, whatever the stream's bounds, and they are durable when it
	// returns. An empty At takes a bookmark away.
	AppendFrom(ctx context.Context, stream string, now time.Time, msgs []Message, source string, marks []Bookmark) (Accepted, error)
	// Draft begins an append of about n messages of together about size bytes, which is
	// many: who has to make them saves memory, and much of the time that it takes.
	Draft(stream string, n int, size int64) Draft
	// Bookmarks returns those of a source, by part. It waits for the commits that are
	// under way, so that an append which returned ErrUndecided is decided then.
	Bookmarks(ctx context.Context, source string) ([]Bookmark, error)
	// KeepBookmarks takes away the bookmarks of all sources but these. Durable when it
	// returns.
	KeepBookmarks(ctx context.Context, sources []string) error
}

// Draft is an append that is made little by little, by one goroutine. It can be dropped.
type Draft interface {
	// Add adds messages, of which nothing is looked at any more when it returns. It neither
	// fails nor waits for a commit.
	Add(msgs []Message)
	// AppendFrom is that of [Bookmarks] with all that was added. It ends the draft.
	AppendFrom(ctx context.Context, now time.Time, source string, marks []Bookmark) (Accepted, error)
}

// Bookmark says how far a source has read a part of what it reads. Both texts are the
// source's own affair, at most 1 KiB each.
type Bookmark struct{ Part, At string }

// Live is the capability of letting requests pass a stream by, on their way to the
// sink that its drain delivers to, in order with the messages of their key.
type Live interface {
	// BeginLive asks whether a request with that ordering key may pass the stream by,
	// which it may while nothing of the key is unfinished or being appended; nil: it may
	// not. Until the end of the passage no message of the key is handed out that was not
	// tried before. Without a key there is no order: it may. It waits for no commit; it
	// may read the disk. ErrNoStream: no such stream.
	BeginLive(ctx context.Context, stream, key string) (Passage, error)
}

// Passage is one request that passes a stream by.
type Passage interface {
	// Clear reports whether nothing of the key has been appended since it began: who
	// waited before sending would overtake that.
	Clear() bool
	// End is called once, when the request is over.
	End()
}

// OnceKey tells a request that is sent again.
type OnceKey struct {
	Key  [16]byte // hash of the key and its scope
	Body [8]byte  // hash of what is asked
	TTL  time.Duration
}

// Expirer is the capability of ending what waited too long.
type Expirer interface {
	// Expire ends the messages of a drain that wait (not those in flight) and were
	// accepted before the given time: as Expired, or as Dead where why is not empty.
	// Durable within 100 ms. It returns how many, and the accepted_at of the oldest
	// that is left, zero if none. It may read the disk.
	Expire(drain string, now, before time.Time, why Reason) (n int, oldest time.Time, err error)
}

// OwnDeadlines is the capability of ending what is late by its own deadline.
type OwnDeadlines interface {
	// ExpireOwn ends the messages of a drain that wait and whose Deadline has come, as
	// Expire does. It returns how many, and when the next is late; zero: none will be.
	// It may read the disk.
	ExpireOwn(drain string, now time.Time, why Reason) (n int, next time.Time, err error)
}

// DeadLetters is the capability of looking at dead messages, and of bringing
// them back.
type DeadLetters interface {
	// Dead lists the dead messages of a drain with an offset above after, in
	// order; after is ^uint64(0) for the first page. more is false at the end.
	Dead(drain string, after uint64, max int) (list []DeadLetter, more bool, err error)
	// DeadMessage reads one whole. It may read the disk. ErrNoMessage: not dead there.
	DeadMessage(drain string, offset uint64) (DeadLetter, Message, error)
	// Replay puts dead messages back to be tried at once, in order and through the
	// drain's own pace: same id, attempts go on counting. Durable when it returns.
	// What is not dead is passed over; n counts the others.
	Replay(ctx context.Context, drain string, offsets []uint64, now time.Time) (n int, err error)
	// DropDead ends dead messages for good, as cancelled. Durable when it returns.
	DropDead(ctx context.Context, drain string, offsets []uint64, now time.Time) (n int, err error)
}

// DeadLetter is what is known of a dead message besides the message itself.
type DeadLetter struct {
	Ref
	ID         string
	Drain      string
	Key        string
	Reason     Reason
	Status     int
	Attempts   int
	Error      string
	AcceptedAt time.Time
	FirstAt    time.Time // of the attempts; zero: none
	At         time.Time // when it was buried
}

// Searcher is the capability of finding messages by their keys. Nothing is
// found by an empty one.
type Searcher interface {
	// FindKey returns the unfinished messages of a key, in order, at most max. It
	// looks into a table a segment, and reads no messages.
	FindKey(ctx context.Context, stream, key string, max int) ([]Ref, error)
	// CancelKey cancels the messages that have a cancel key with every drain where
	// they wait. Attempts in flight end, and are the last: delivered if they
	// succeed, cancelled if they are released, buried or returned, and where a
	// crash leaves that open. All of it is durable when CancelKey returns. n counts
	// the messages that were cancelled at once with one drain at least: what is in
	// flight alone may yet be delivered, and is not counted.
	CancelKey(ctx context.Context, stream, key string, now time.Time) (n int, err error)
}

// Remover is the capability of giving up what is left of a drain or stream.
type Remover interface {
	// DropDrain ends all that is unfinished or dead with a drain as cancelled and
	// forgets the drain if it is orphaned. DropStream does so for every drain, and
	// gives up what no drain ever read.
	DropDrain(ctx context.Context, drain string, now time.Time) (n int, err error)
	DropStream(ctx context.Context, stream string, now time.Time) (n int, err error)
}

// Inspector is the capability of being accounted for.
type Inspector interface {
	// Stats counts. It reads at most one block a drain.
	Stats() Stats
	// Audit counts again from what is stored. It reads the index of every segment.
	Audit(ctx context.Context) ([]Account, error)
}

// Ref names a message by place. It never changes.
type Ref struct {
	Stream string
	Offset uint64 // dense, from 0, in order of acceptance
}

// Accepted says where appended messages are: offsets First … First+Count-1.
type Accepted struct {
	First uint64
	Count int
	At    time.Time // never decreases within a stream; millisecond precision
}

// Delivery is a message in the hands of a drain.
type Delivery struct {
	Ref
	AcceptedAt time.Time
	Tries      Tries
	Message
}

// Tries is what is remembered of a message's earlier attempts at one drain.
type Tries struct {
	Attempts int       // all of them
	Answers  int       // those the sink answered about the message itself; counts towards max_attempts
	FirstAt  time.Time // when the first began; zero before
}

// Result is how an attempt that ended a message went.
type Result struct {
	At       time.Time
	FirstAt  time.Time // when the first attempt began; used where none was released before
	Attempts int       // including this one
	Status   int       // the sink's HTTP status; 0 when there was none
	Error    string    // empty on success
	Answer   *Answer   // of a message with KeepAnswer; nil: none
}

// Answer is what a sink said.
type Answer struct {
	Header    []Field
	Body      []byte
	Truncated bool // the body was longer than was kept
}

// Retry is how an attempt failed and when the next may start.
type Retry struct {
	Due time.Time
	Tries
	Status int
	Error  string
}

// Reason says why a message is dead. Its values are the label values of
// forebay_drain_dead_messages_total.
type Reason string

// The reasons of contract.md, section 5.
const (
	ReasonPermanent   Reason = "permanent"
	ReasonMaxAttempts Reason = "max-attempts"
	ReasonMaxAge      Reason = "max-age"
	ReasonDeadline    Reason = "deadline"
	ReasonRetention   Reason = "retention"
	ReasonDamaged     Reason = "damaged"
)

// Reasons lists every Reason.
func Reasons() []Reason {
	return []Reason{ReasonPermanent, ReasonMaxAttempts, ReasonMaxAge, ReasonDeadline, ReasonRetention, ReasonDamaged}
}

// State is where a message stands with one drain.
type State string

// The states of a receipt. The last four are final.
const (
	Queued     State = "queued"
	Scheduled  State = "scheduled"
	Delivering State = "delivering"
	Delivered  State = "delivered"
	Cancelled  State = "cancelled"
	Expired    State = "expired"
	Dead       State = "dead"
)

// Final reports whether nothing more will happen by itself.
func (s State) Final() bool {
	return s == Delivered || s == Cancelled || s == Expired || s == Dead
}

// Status is where a message stands.
type Status struct {
	Ref
	AcceptedAt time.Time
	Deadline   time.Time     // of the message's own, while one waits for it; zero: none
	Drains     []DrainStatus // in the order of the stream's drains
}

// DrainStatus is where a message stands with one drain.
type DrainStatus struct {
	Drain    string
	State    State
	Ahead    uint64 // unfinished messages that leave first and are not in flight; while waiting
	Attempts int
	Due      time.Time // next attempt; while scheduled
	Status   int       // HTTP status of the last attempt
	Error    string    // of the last attempt
	Reason   Reason    // while dead
	At       time.Time // when it became final
	Answer   *Answer   // of the sink, while it is kept; once final
}

// State is that of the least finished drain; of a finished message the worst.
func (s Status) State() State {
	order := []State{Queued, Scheduled, Delivering, Dead, Expired, Cancelled, Delivered}
	for _, want := range order {
		for _, d := range s.Drains {
			if d.State == want {
				return want
			}
		}
	}
	return Queued // no drain reads the stream yet
}

// Stream is what an engine needs to know of a policy's stream.
type Stream struct {
	Name             string
	Drains           []string
	FromOldest       []string      // of them, those that start at the oldest message kept if they are new
	Keyless          []string      // of them, those that are handed all messages in order of arrival, whatever their keys
	DeadKeep         time.Duration // 0: 14 days; older dead letters become expired
	DeadMaxBytes     int64         // 0: 1 GiB; at it appends are refused with ErrDeadFull
	MaxBytes         int64         // 0: the disk's bound alone
	MaxMessageBytes  int64         // 0: 1 MiB
	KeepDelivered    time.Duration // 0: 24 h
	KeepResultsBytes int64         // of sinks' answers, the newest; 0: 1 GiB
}

// Stats is a snapshot of counts.
type Stats struct {
	Streams  []StreamStats
	Drains   []DrainStats
	Bytes    int64          // on disk, all files
	Free     int64          // of the volume
	Room     int64          // bytes of blocks, about, that may come before appends are refused for want of disk
	Segments map[string]int // by state: open, sealed
	Corrupt  uint64         // blocks found damaged since the start
	ReadOnly bool           // appends are refused: no segment can be reserved, or the engine stopped
}

// StreamStats counts one stream.
type StreamStats struct {
	Stream   string
	Orphaned bool   // stored, but not in the policy any more
	Messages uint64 // unfinished with at least one drain
	Bytes    int64  // encoded bytes of blocks with unfinished messages
	MaxBytes int64  // 0: the disk's bound alone
	Accepted uint64
	Oldest   time.Time // accepted_at of the oldest unfinished message; zero: none
}

// DrainStats counts one drain. Buffered is Pending + InFlight + Scheduled.
type DrainStats struct {
	Drain, Stream string
	Orphaned      bool
	Pending       uint64
	InFlight      uint64
	Scheduled     uint64
	Delivered     uint64
	Expired       uint64
	Cancelled     uint64
	Dead          map[Reason]uint64 // at present: replay and drop take away
	Buried        map[Reason]uint64 // since the start, those dead at the start included: never less
	Oldest        time.Time
	LastDue       time.Time // when the last of what is scheduled is due; zero: none is
	ParkedKeys    int       // keys whose first message is in flight or scheduled
	Blocked       bool      // as many keys are parked as may be: only those are served
}

// Waiting is where a message of a backlog stands.
type Waiting struct {
	Ahead      uint64 // messages that leave first and are not in flight
	AcceptedAt time.Time
}

// Account is the balance of one stream with one drain.
type Account struct {
	Stream, Drain                                           string
	Accepted, Delivered, Expired, Cancelled, Dead, Buffered uint64
}

// Imbalance is what the terms do not account for; 0 in a sound buffer.
func (a Account) Imbalance() int64 {
	return int64(a.Accepted) - int64(a.Delivered+a.Expired+a.Cancelled+a.Dead+a.Buffered)
}
