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
	maxBatch      = 16384   // records of one append
	run           = 256     // messages that are made before they are encoded: as many as stay near the processor
	maxBatchBytes = 8 << 20 // of all that they hold
	storers       = 4       // appends at a time, of different partitions: one is made while others wait for their commits
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
	if _, closed := s.cfg.Closed(s.source.Stream); closed && b.count > 0 {
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

// letGo lets the partitions of a batch be in another one.
func (s *session) letGo(b *batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range b.shares {
		x.assigned.storing = false
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
	err := s.appendAll(context.WithoutCancel(ctx), b, marks) // an end of the wait would leave open what was stored
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

func (s *session) appendAll(ctx context.Context, b *batch, marks []buffer.Bookmark) (err error) {
	if b.draft == nil {
		_, err = s.buf.AppendFrom(ctx, s.source.Stream, time.Now(), b.msgs, s.source.Name, marks)
		return err
	}
	s.draft(b)
	_, err = b.draft.AppendFrom(ctx, time.Now(), s.source.Name, marks)
	return err
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
	b.recycle()
	if len(stopped) > 0 {
		s.client.PauseFetchPartitions(stopped)
	}
	for _, text := range texts {
		s.log.Error("source stops at a record", "record", text, "hint", "raise the stream's limit, or write on_refused: { topic: NAME }, and reload")
		s.cfg.Event("source-stopped", s.source.Name, text)
	}
}
