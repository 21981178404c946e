package kafka

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"forebay/buffer"
)

const (
	maxBatch      = 8192    // records of one append
	maxBatchBytes = 4 << 20 // of their values, about
	storers       = 2       // appends at a time, of different partitions
	refusedMax    = 64 << 20

	firstPause = 50 * time.Millisecond
	lastPause  = time.Second
)

// store stores what is pending, until ctx is done. While the buffer takes nothing,
// nothing is fetched.
func (s *session) store(ctx context.Context) {
	var all sync.WaitGroup
	for range storers {
		all.Go(func() {
			for ctx.Err() == nil {
				s.storeOn(ctx)
				select {
				case <-s.came:
				case <-ctx.Done():
				}
			}
		})
	}
	all.Wait()
}

// storeOn stores batches until there is none to be made.
func (s *session) storeOn(ctx context.Context) {
	pause := firstPause
	var b batch
	for ctx.Err() == nil {
		some, err := s.storeOnce(ctx, &b)
		if why := pauseOf(err); why != "" {
			s.pause(why)
			sleep(ctx, pause/2+rand.N(pause/2))
			pause = min(2*pause, lastPause)
			continue
		}
		if err != nil {
			// The buffer has stopped, with the process, or a refused record has nowhere to go.
			s.fail("storing", err.Error())
			sleep(ctx, pause)
			pause = min(2*pause, lastRetry)
			continue
		}
		if pause = firstPause; !some {
			return
		}
	}
}

// pauseOf is why the buffer refused, where that ends by itself.
func pauseOf(err error) Reason {
	switch {
	case errors.Is(err, buffer.ErrBufferFull):
		return BufferFull
	case errors.Is(err, buffer.ErrDiskFull):
		return DiskFull
	case errors.Is(err, buffer.ErrDeadFull):
		return DeadFull
	case errors.Is(err, buffer.ErrOverloaded), errors.Is(err, buffer.ErrStalled):
		return Overloaded
	case errors.Is(err, errClosed), errors.Is(err, buffer.ErrNoStream): // a reload is under way
		return Closed
	}
	return ""
}

var errClosed = errors.New("the stream is closed")

// pause stops fetching. The client goes on telling the group that it is there, and keeps
// what it has fetched.
func (s *session) pause(why Reason) {
	s.mu.Lock()
	was := s.paused
	s.paused = why
	s.mu.Unlock()
	if was == "" {
		s.client.PauseFetchTopics(s.source.Kafka.Topics...)
	}
	if was != why {
		s.log.Info("source waits", "reason", string(why), "stream", s.source.Stream)
	}
}

func (s *session) resume() {
	s.mu.Lock()
	was := s.paused
	s.paused = ""
	s.mu.Unlock()
	if was != "" {
		signal(s.room)
		s.client.ResumeFetchTopics(s.source.Kafka.Topics...)
		s.log.Info("source goes on", "waited_for", string(was), "stream", s.source.Stream)
	}
}

// share is what a batch has of one partition.
type share struct {
	*assigned
	records []*kgo.Record // that it may take
	behind  *unread       // what comes after them; nil: nothing that is known
	to      place         // where the partition is when the batch is stored
	taken   int           // of records
	size    int64         // of what is taken, in bytes
	count   int           // of messages
	stop    *refusal      // of the record behind them; nil: none
	skip    bool          // to is behind what cannot be read
}

// batch is what is stored in one commit.
type batch struct {
	msgs    []buffer.Message
	origins []buffer.Origin // of msgs
	making  *making
	shares  []share
	refused []*kgo.Record // to be written to their topic before
	bytes   int
}

// storeOnce stores one batch, in the memory of b; some says that there was one.
func (s *session) storeOnce(ctx context.Context, b *batch) (some bool, err error) {
	s.storing.RLock()
	defer s.storing.RUnlock()
	s.pick(b)
	if len(b.shares) == 0 {
		if !s.busy() {
			s.resume() // what could not be stored is another's now
			s.well("storing")
		}
		return false, nil
	}
	defer s.letGo(b)
	s.fill(b)
	if _, closed := s.cfg.Closed(s.source.Stream); closed && len(b.msgs) > 0 {
		return false, errClosed
	}
	if err := s.writeRefused(ctx, b); err != nil {
		return false, err
	}
	if err := s.append(ctx, b); err != nil {
		return false, err
	}
	s.stored(b)
	s.resume()
	s.well("storing")
	return true, nil
}

// pick takes about a batch of what is pending, of partitions that are in no other one.
func (s *session) pick(b *batch) {
	clear(b.shares) // or the records of the last batch would be kept
	*b = batch{msgs: b.msgs[:0], origins: b.origins, shares: b.shares[:0]}
	s.mu.Lock()
	defer s.mu.Unlock()
	var records int
	var bytes int64
	for _, p := range s.parts {
		if len(p.pending) == 0 && p.unread == nil || p.stopped != nil || p.storing {
			continue
		}
		if records >= maxBatch || bytes >= maxBatchBytes {
			break
		}
		x := share{assigned: p, to: p.place, records: p.pending, behind: p.unread}
		if most := maxBatch - records; len(x.records) > most {
			x.records, x.behind = x.records[:most], nil
		}
		p.storing = true
		records, bytes = records+len(x.records), bytes+p.bytes
		b.shares = append(b.shares, x)
	}
}

// busy reports whether anything is being stored.
func (s *session) busy() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.parts {
		if p.storing {
			return true
		}
	}
	return false
}

// letGo lets the partitions of a batch be in another one.
func (s *session) letGo(b *batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range b.shares {
		x.assigned.storing = false
	}
}

func (b *batch) full() bool { return len(b.msgs) >= maxBatch || b.bytes >= maxBatchBytes }

// fill makes messages of what was picked, each partition in order.
func (s *session) fill(b *batch) {
	n := 0
	for i := range b.shares {
		n += len(b.shares[i].records)
	}
	if n > cap(b.msgs) {
		b.msgs, b.origins = make([]buffer.Message, 0, n), make([]buffer.Origin, n)
	}
	b.making = s.make.batch()
	for i := range b.shares {
		s.fillFrom(b, &b.shares[i])
	}
}

func (s *session) fillFrom(b *batch, x *share) {
	for _, r := range x.records {
		if b.full() {
			return
		}
		if !r.Attrs.IsControl() {
			i := len(b.msgs)
			b.msgs = b.msgs[:i+1]
			why := b.making.message(r, &b.msgs[i], &b.origins[i])
			if why != nil {
				b.msgs = b.msgs[:i]
			}
			switch {
			case why == nil:
				b.bytes += len(r.Value) + len(r.Key)
				x.count++
			case s.source.RefusedTopic == "":
				x.stop, x.to.next = why, r.Offset
				return
			default:
				s.refuse(b, x, r, why)
			}
		}
		x.to = place{r.Offset + 1, r.LeaderEpoch}
		x.taken++
		x.size += sizeOf(r)
	}
	if u := x.behind; u != nil {
		if s.source.RefusedTopic == "" {
			x.stop, x.to.next = u.why, u.first.Offset
			return
		}
		s.refuse(b, x, u.first, u.why)
		x.to, x.skip = place{u.next, -1}, true
	}
}

// refuse puts a record among those that are written to their topic, unless it is there.
func (s *session) refuse(b *batch, x *share, r *kgo.Record, why *refusal) {
	if r.Offset >= x.produced {
		b.refused = append(b.refused, refusedRecord(r, s.source.RefusedTopic, why, time.Now()))
	}
}

// writeRefused writes refused records to their topic, once in the life of the session.
func (s *session) writeRefused(ctx context.Context, b *batch) error {
	if len(b.refused) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 4*requestTimeout)
	defer cancel()
	at := "topic " + s.source.RefusedTopic
	if err := s.client.ProduceSync(ctx, b.refused...).FirstErr(); err != nil {
		if errors.Is(err, kerr.UnknownTopicOrPartition) {
			s.client.PurgeTopicsFromClient(s.source.RefusedTopic) // or it would not be looked for again
		}
		return fmt.Errorf("write refused records to %s: %w", at, err)
	}
	s.mu.Lock()
	for _, x := range b.shares {
		x.produced = max(x.produced, x.to.next)
	}
	s.mu.Unlock()
	s.counts.refused.Add(uint64(len(b.refused)))
	s.log.Warn("records were refused", "topic", s.source.RefusedTopic, "records", len(b.refused), "first", sourceOfRefused(b.refused[0]))
	return nil
}

func sourceOfRefused(r *kgo.Record) string {
	i := slices.IndexFunc(r.Headers, func(h kgo.RecordHeader) bool { return h.Key == "forebay-source" })
	return string(r.Headers[i].Value)
}

// append stores a batch with the places that the source has then.
func (s *session) append(ctx context.Context, b *batch) error {
	var marks []buffer.Bookmark
	for _, x := range b.shares {
		if x.to != x.place {
			marks = append(marks, x.bookmark(x.to))
		}
	}
	if len(marks) == 0 {
		return nil
	}
	// Not with ctx: an end of the wait would leave open what was stored.
	_, err := s.buf.AppendFrom(context.WithoutCancel(ctx), s.source.Stream, time.Now(), b.msgs, s.source.Name, marks)
	if !errors.Is(err, buffer.ErrUndecided) {
		return err
	}
	kept, err := s.buf.Bookmarks(ctx, s.source.Name) // waits until it is decided
	if err != nil {
		return err
	}
	if !slices.Contains(kept, marks[0]) {
		return buffer.ErrStalled
	}
	return nil
}

// stored moves the partitions of a batch on, and stops those that come to a record which
// cannot be stored.
func (s *session) stored(b *batch) {
	s.mu.Lock()
	stopped := map[string][]int32{}
	var texts []string
	for _, x := range b.shares {
		x.place, x.pending, x.bytes = x.to, x.pending[x.taken:], x.bytes-x.size
		if len(x.pending) == 0 {
			x.pending = nil // gives its memory back
		}
		s.counts.stored.Add(uint64(x.count))
		if x.skip {
			s.end(errAgain) // the next session begins behind it
		}
		if x.stop == nil {
			continue
		}
		x.stopped, x.pending, x.bytes = x.stop, nil, 0
		s.counts.stopped.Add(1)
		stopped[x.topic] = append(stopped[x.topic], x.n)
		texts = append(texts, fmt.Sprintf("topic %s partition %d offset %d cannot be stored: %s", x.topic, x.n, x.next, x.stop.detail))
	}
	s.mu.Unlock()
	signal(s.room)
	if len(stopped) > 0 {
		s.client.PauseFetchPartitions(stopped)
	}
	for _, text := range texts {
		s.log.Error("source stops at a record", "record", text, "hint", "raise the stream's limit, or write on_refused: { topic: NAME }, and reload")
		s.cfg.Event("source-stopped", s.source.Name, text)
	}
}
