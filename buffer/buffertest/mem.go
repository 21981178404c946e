package buffertest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"forebay/buffer"
)

// The defaults that buffer.Stream names.
const (
	defaultMaxMessageBytes  = 1 << 20
	defaultKeepDelivered    = 24 * time.Hour
	defaultDeadKeep         = 14 * 24 * time.Hour
	defaultDeadMaxBytes     = 1 << 30
	defaultKeepResultsBytes = 1 << 30
)

// Mem is a buffer in memory that keeps to the contract of buffer.Buffer and of
// every capability that package buffer names, except that nothing survives the
// process. All methods are safe for concurrent use and none of them blocks.
type Mem struct {
	ids idCipher

	mu        sync.Mutex // guards all below
	maxParked int        // keys, of each drain
	streams   []*memStream
	drains    map[string]*memDrain
	watches   map[buffer.Ref]map[*watch]struct{}
	bookmarks map[string]map[string]string // by source and part
}

// memStream is a stream and all that was ever appended to it. Its number is
// its place in Mem.streams.
type memStream struct {
	buffer.Stream
	number    int
	orphaned  bool
	dropped   bool         // orphaned and given up: not listed
	read      bool         // it has or had a drain
	timed     bool         // a message came with a deadline of its own
	messages  []memMessage // by offset
	drains    []*memDrain  // the configured ones in their order, then orphans
	once      map[[16]byte]onceRecord
	live      map[string]int // requests under way that pass it by, by key
	lastAt    time.Time      // of the newest message
	open      uint64         // messages unfinished with at least one drain
	low       int            // no message before it is open
	bytes     int64          // of open messages
	deadBytes int64          // of bodies of messages that are dead with a drain
	answers   []answered     // in the order they came
}

type memMessage struct {
	buffer.Message
	at         time.Time
	owner      buffer.Owner
	size       int64
	unfinished int // drains that have not finished with it; 1 while the stream waits for its first
	dead       int // drains that it is dead with
}

// NewMem returns an empty buffer with these streams. It panics where Configure
// would return an error.
func NewMem(streams ...buffer.Stream) *Mem {
	m := &Mem{
		ids:       newIDCipher(),
		maxParked: MaxParkedKeys,
		drains:    make(map[string]*memDrain),
		watches:   make(map[buffer.Ref]map[*watch]struct{}),
		bookmarks: make(map[string]map[string]string),
	}
	if err := m.Configure(streams); err != nil {
		panic(err)
	}
	return m
}

// Configure replaces the streams and drains. A drain that is new to a stream
// starts at the stream's end, or at the oldest message that another drain has
// not finished with if the stream says so; the first that a stream ever has gets
// all. What is no longer named keeps its messages and is listed as orphaned. An
// error changes nothing.
func (m *Mem) Configure(streams []buffer.Stream) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.checkNames(streams); err != nil {
		return err
	}
	for _, s := range m.streams {
		s.orphaned = true
	}
	for _, d := range m.drains {
		d.orphaned = true
	}
	for _, want := range streams {
		m.configure(want)
	}
	return nil
}

func (m *Mem) checkNames(streams []buffer.Stream) error {
	streamOf := make(map[string]string) // by drain
	for _, d := range m.drains {
		streamOf[d.name] = d.stream.Name
	}
	seen := make(map[string]bool)
	for _, s := range streams {
		if seen["stream "+s.Name] {
			return fmt.Errorf("configure stream %s: named twice", s.Name)
		}
		seen["stream "+s.Name] = true
		for _, d := range s.Drains {
			if seen["drain "+d] {
				return fmt.Errorf("configure stream %s: drain %s is named twice", s.Name, d)
			}
			seen["drain "+d] = true
			if of, ok := streamOf[d]; ok && of != s.Name {
				return fmt.Errorf("configure stream %s: drain %s belongs to stream %s", s.Name, d, of)
			}
		}
	}
	return nil
}

func (m *Mem) configure(want buffer.Stream) {
	s := m.stored(want.Name)
	if s == nil {
		s = &memStream{number: len(m.streams), once: make(map[[16]byte]onceRecord), live: make(map[string]int)}
		m.streams = append(m.streams, s)
	}
	want.Drains = slices.Clone(want.Drains)
	want.FromOldest = slices.Clone(want.FromOldest)
	want.MaxMessageBytes = cmp.Or(want.MaxMessageBytes, defaultMaxMessageBytes)
	want.KeepDelivered = cmp.Or(want.KeepDelivered, defaultKeepDelivered)
	want.DeadKeep = cmp.Or(want.DeadKeep, defaultDeadKeep)
	want.DeadMaxBytes = cmp.Or(want.DeadMaxBytes, defaultDeadMaxBytes)
	want.KeepResultsBytes = cmp.Or(want.KeepResultsBytes, defaultKeepResultsBytes)
	s.Stream, s.orphaned, s.dropped = want, false, false

	before := s.drains
	s.drains = nil
	for _, name := range want.Drains {
		d := m.drains[name]
		if d == nil {
			d = s.newDrain(name)
			m.drains[name] = d
		}
		d.orphaned = false
		d.setKeyless(slices.Contains(want.Keyless, name))
		s.drains = append(s.drains, d)
	}
	for _, d := range before {
		if d.orphaned {
			s.drains = append(s.drains, d)
		}
	}
}

// Append implements buffer.Buffer. No messages at all are an error.
func (m *Mem) Append(ctx context.Context, stream string, now time.Time, msgs []buffer.Message) (buffer.Accepted, error) {
	if err := ctx.Err(); err != nil {
		return buffer.Accepted{}, fmt.Errorf("append to %s: %w", stream, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.stored(stream)
	if s == nil || s.orphaned {
		return buffer.Accepted{}, fmt.Errorf("append to %s: %w", stream, buffer.ErrNoStream)
	}
	a, err := s.append(now, msgs)
	if err != nil {
		return buffer.Accepted{}, fmt.Errorf("append to %s: %w", stream, err)
	}
	return a, nil
}

func (s *memStream) append(now time.Time, msgs []buffer.Message) (buffer.Accepted, error) {
	if err := s.admit(msgs); err != nil {
		return buffer.Accepted{}, err
	}
	// A batch has one time, which never goes back within the stream.
	at := time.UnixMilli(now.UnixMilli()).UTC()
	if at.Before(s.lastAt) {
		at = s.lastAt
	}
	s.lastAt = at
	first := uint64(len(s.messages))
	for _, msg := range msgs {
		s.add(clone(msg), at)
	}
	for _, d := range s.drains {
		d.signal()
	}
	return buffer.Accepted{First: first, Count: len(msgs), At: at}, nil
}

// admit says whether all of msgs may be stored.
func (s *memStream) admit(msgs []buffer.Message) error {
	if len(msgs) == 0 {
		return errors.New("no messages")
	}
	if s.deadBytes >= s.DeadMaxBytes {
		return buffer.ErrDeadFull
	}
	sum := s.bytes
	for i, msg := range msgs {
		if int64(len(msg.Body)) > s.MaxMessageBytes {
			return fmt.Errorf("message %d of %d: %w", i+1, len(msgs), buffer.ErrTooLarge)
		}
		sum += size(msg)
	}
	if s.MaxBytes > 0 && sum > s.MaxBytes {
		return buffer.ErrBufferFull
	}
	return nil
}

// add stores one message as pending with every drain.
func (s *memStream) add(msg buffer.Message, at time.Time) {
	offset := uint64(len(s.messages))
	owner := msg.Owner
	msg.Owner = 0
	s.timed = s.timed || !msg.Deadline.IsZero()
	s.messages = append(s.messages, memMessage{Message: msg, at: at, size: size(msg), owner: owner})
	if !s.read {
		s.owe(offset)
	}
	for _, d := range s.drains {
		s.owe(offset)
		d.add(offset)
	}
}

// owe takes note that one more drain is to finish with a message.
func (s *memStream) owe(offset uint64) {
	msg := &s.messages[offset]
	msg.unfinished++
	if msg.unfinished > 1 {
		return
	}
	s.open++
	s.bytes += msg.size
	s.low = min(s.low, int(offset))
}

// finished takes note that one drain has finished with a message.
func (s *memStream) finished(offset uint64) {
	msg := &s.messages[offset]
	msg.unfinished--
	if msg.unfinished > 0 {
		return
	}
	s.open--
	s.bytes -= msg.size
}

// oldest is the first open message; the stream's end when there is none.
func (s *memStream) oldest() int {
	for s.low < len(s.messages) && s.messages[s.low].unfinished == 0 {
		s.low++
	}
	return s.low
}

// oldestAt is when the oldest open message was accepted; zero when there is none.
func (s *memStream) oldestAt() time.Time {
	if i := s.oldest(); i < len(s.messages) {
		return s.messages[i].at
	}
	return time.Time{}
}

// stored returns the stream of that name, orphaned or not, or nil.
func (m *Mem) stored(name string) *memStream {
	for _, s := range m.streams {
		if s.Name == name {
			return s
		}
	}
	return nil
}

// size is what a message counts against max_bytes here: its parts, and eight
// bytes for each length an encoding would store.
func size(msg buffer.Message) int64 {
	n := len(msg.Method) + len(msg.Target) + len(msg.Key) + len(msg.Body) + len(msg.Batch) + 6*8
	for _, f := range msg.Header {
		n += len(f.Name) + len(f.Value) + 2*8
	}
	for _, key := range msg.CancelKeys {
		n += len(key) + 8
	}
	return int64(n)
}

// clone copies texts too: a source's are memory that is used again.
func clone(msg buffer.Message) buffer.Message {
	msg.Header = slices.Clone(msg.Header)
	for i := range msg.Header {
		msg.Header[i].Value = strings.Clone(msg.Header[i].Value)
	}
	msg.Body = slices.Clone(msg.Body)
	msg.Key = strings.Clone(msg.Key)
	msg.CancelKeys = slices.Clone(msg.CancelKeys) // nil stays nil: the ordering key
	for i := range msg.CancelKeys {
		msg.CancelKeys[i] = strings.Clone(msg.CancelKeys[i])
	}
	if msg.Origin != nil {
		origin := *msg.Origin
		origin.Key = strings.Clone(origin.Key)
		msg.Origin = &origin
	}
	return msg
}
