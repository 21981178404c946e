package buffertest

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"forebay/buffer"
)

func TestMem(t *testing.T) {
	Run(t, func(*testing.T) Subject {
		m := NewMem()
		return Subject{Buffer: m, Housekeep: m.Housekeep}
	})
}

func TestMemModel(t *testing.T) {
	RunModel(t, func(*testing.T) Subject { return Subject{Buffer: NewMem()} })
}

// The sections for durable engines run too, on a store that is made of copies.
func TestStoredMem(t *testing.T) {
	Run(t, func(*testing.T) Subject { return newStore().subject() })
}

func TestStoredMemModel(t *testing.T) {
	RunModel(t, func(*testing.T) Subject { return newStore().subject() })
}

// A buffer without receipts and inspector is held to the core alone.
func TestCoreAlone(t *testing.T) {
	open := func(*testing.T) Subject { return Subject{Buffer: struct{ Engine }{NewMem()}} }
	Run(t, open)
	RunModel(t, open)
}

func TestMissing(t *testing.T) {
	bare := Subject{Buffer: struct{ Engine }{NewMem()}}
	all := newStore().subject()
	every := []capability{
		needReceipts, needInspector, needReopen, needOnce, needExpirer, needDeadLetters, needSearcher, needRemover, needHousekeep, needBookmarks,
	}
	tests := []struct {
		needs   []capability
		subject Subject
		want    capability
	}{
		{nil, bare, ""},
		{every, all, ""},
	}
	for _, c := range every {
		tests = append(tests, struct {
			needs   []capability
			subject Subject
			want    capability
		}{[]capability{c}, bare, c})
	}
	for _, tt := range tests {
		if got := (section{needs: tt.needs}).missing(tt.subject); got != tt.want {
			t.Errorf("missing(%q) is %q, want %q", tt.needs, got, tt.want)
		}
	}
}

func TestMemConfigureRefuses(t *testing.T) {
	tests := []struct {
		name    string
		streams []buffer.Stream
		want    string
	}{
		{"a stream twice", []buffer.Stream{{Name: "orders"}, {Name: "orders"}}, "named twice"},
		{"a drain twice", []buffer.Stream{{Name: "orders", Drains: []string{"mail", "mail"}}}, "drain mail is named twice"},
		{"a drain of two streams", []buffer.Stream{{Name: "orders", Drains: []string{"mail"}}, {Name: "logs", Drains: []string{"mail"}}}, "drain mail is named twice"},
		{"a drain that moves", []buffer.Stream{{Name: "logs", Drains: []string{"sms"}}}, "belongs to stream orders"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := NewMem(buffer.Stream{Name: "orders", Drains: []string{"mail", "sms"}})
			err := m.Configure(tt.streams)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("Configure(%+v): error is %v, want one with %q", tt.streams, err, tt.want)
			}
			if _, _, err := m.Take("sms", time.Now(), 1); err != nil {
				t.Fatalf("Take after a refused Configure: %v", err)
			}
		})
	}
}

func TestMemKeepsOrphans(t *testing.T) {
	orders := buffer.Stream{Name: "orders", Drains: []string{"mail", "sms"}}
	f := newFixture(t, Subject{Buffer: NewMem()}, []buffer.Stream{orders})
	f.fill("orders", 2)

	f.configure([]buffer.Stream{{Name: "orders", Drains: []string{"mail"}}})
	_, _, err := f.Buffer.Take("sms", f.now, 1)
	f.wantErr("Take for an orphaned drain", err, buffer.ErrNoDrain)
	if got := f.drainStats("sms"); !got.Orphaned || got.Pending != 2 {
		t.Fatalf("stats of an orphaned drain: %+v, want orphaned, 2 pending", got)
	}

	f.configure(nil)
	_, err = f.Buffer.Append(context.Background(), "orders", f.now, []buffer.Message{small(0)})
	f.wantErr("Append to an orphaned stream", err, buffer.ErrNoStream)
	if got := f.streamStats("orders"); !got.Orphaned || got.Messages != 2 {
		t.Fatalf("stats of an orphaned stream: %+v, want orphaned, 2 messages", got)
	}

	f.configure([]buffer.Stream{orders})
	f.wantTake("sms", 9, 0, 1)
	f.wantTake("mail", 9, 0, 1)
	f.checkLedger()
}

// A drain that sleeps until a retry is due makes the bubble's time go on: Mem
// neither runs goroutines nor keeps one from being durably blocked.
func TestMemInBubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMem(oneDrain()...)
		start := time.Now()
		delivered := make(chan time.Duration)
		go func() {
			for range 2 {
				releaseOnce(t, m, start)
			}
			delivered <- time.Since(start)
		}()
		time.Sleep(time.Hour)
		if _, err := m.Append(t.Context(), "orders", time.Now(), []buffer.Message{small(0)}); err != nil {
			t.Errorf("Append: %v", err)
		}
		if got, want := <-delivered, 3*time.Hour; got != want {
			t.Errorf("delivered after %s, want %s", got, want)
		}
	})
}

// releaseOnce waits for the one message, releases it for an hour later, and
// returns when it is due.
func releaseOnce(t *testing.T, m *Mem, first time.Time) {
	for {
		ds, next, err := m.Take("mail", time.Now(), 1)
		switch {
		case err != nil:
			t.Errorf("Take: %v", err)
			return
		case len(ds) > 0:
			due := time.Now().Add(time.Hour)
			m.Release("mail", ds[0].Offset, buffer.Retry{Due: due, Tries: buffer.Tries{Attempts: 1, FirstAt: first}})
			time.Sleep(time.Until(due))
			return
		case !next.IsZero():
			time.Sleep(time.Until(next))
		default:
			<-m.Wake("mail")
		}
	}
}

// store is what a durable engine would have on disk: a copy of the buffer at
// each time when all of it is durable.
type store struct {
	*Mem
	mu      sync.Mutex // guards durable
	durable *Mem
}

func newStore() *store { return &store{Mem: NewMem(), durable: NewMem()} }

// save makes all that was done durable.
func (s *store) save() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.durable = s.Mem.copied()
}

func (s *store) subject() Subject {
	return Subject{
		Buffer:  s,
		Settled: func() error { s.save(); return nil },
		Housekeep: func(now time.Time) {
			s.Mem.Housekeep(now)
			s.save()
		},
		Reopen: func(crash bool) (Engine, error) {
			if !crash {
				s.save()
			}
			s.Mem = s.durable.copied()
			for _, d := range s.drains {
				d.buried = maps.Clone(d.dead) // a start counts anew
			}
			return s, nil
		},
		Close: func() error { return nil },
	}
}

// Configure is durable.
func (s *store) Configure(streams []buffer.Stream) error {
	err := s.Mem.Configure(streams)
	s.save()
	return err
}

// Append is durable, and what was done before with it.
func (s *store) Append(ctx context.Context, stream string, now time.Time, msgs []buffer.Message) (buffer.Accepted, error) {
	a, err := s.Mem.Append(ctx, stream, now, msgs)
	s.save()
	return a, err
}

// AppendFrom is durable, as Append is.
func (s *store) AppendFrom(ctx context.Context, stream string, now time.Time, msgs []buffer.Message, source string, marks []buffer.Bookmark) (buffer.Accepted, error) {
	a, err := s.Mem.AppendFrom(ctx, stream, now, msgs, source, marks)
	s.save()
	return a, err
}

// Draft is durable, as AppendFrom is.
func (s *store) Draft(stream string, _ int, _ int64) buffer.Draft { return NewDraft(s, stream) }

// Bookmarks makes durable what was done before.
func (s *store) Bookmarks(ctx context.Context, source string) ([]buffer.Bookmark, error) {
	s.save()
	return s.Mem.Bookmarks(ctx, source)
}

// KeepBookmarks is durable.
func (s *store) KeepBookmarks(ctx context.Context, sources []string) error {
	err := s.Mem.KeepBookmarks(ctx, sources)
	s.save()
	return err
}

// AppendOnce is durable, as Append is.
func (s *store) AppendOnce(ctx context.Context, stream string, now time.Time, msgs []buffer.Message, key buffer.OnceKey) (buffer.Accepted, bool, error) {
	a, replayed, err := s.Mem.AppendOnce(ctx, stream, now, msgs, key)
	if !replayed {
		s.save()
	}
	return a, replayed, err
}

// Cancel is durable.
func (s *store) Cancel(ctx context.Context, ref buffer.Ref, now time.Time) error {
	err := s.Mem.Cancel(ctx, ref, now)
	s.save()
	return err
}

// Replay is durable.
func (s *store) Replay(ctx context.Context, drain string, offsets []uint64, now time.Time) (int, error) {
	n, err := s.Mem.Replay(ctx, drain, offsets, now)
	s.save()
	return n, err
}

// DropDead is durable.
func (s *store) DropDead(ctx context.Context, drain string, offsets []uint64, now time.Time) (int, error) {
	n, err := s.Mem.DropDead(ctx, drain, offsets, now)
	s.save()
	return n, err
}

// CancelKey is durable.
func (s *store) CancelKey(ctx context.Context, stream, key string, now time.Time) (int, error) {
	n, err := s.Mem.CancelKey(ctx, stream, key, now)
	s.save()
	return n, err
}

// DropDrain is durable.
func (s *store) DropDrain(ctx context.Context, drain string, now time.Time) (int, error) {
	n, err := s.Mem.DropDrain(ctx, drain, now)
	s.save()
	return n, err
}

// DropStream is durable.
func (s *store) DropStream(ctx context.Context, stream string, now time.Time) (int, error) {
	n, err := s.Mem.DropStream(ctx, stream, now)
	s.save()
	return n, err
}

// copied returns what would be found after a start: nothing is in flight.
func (m *Mem) copied() *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := NewMem()
	for _, s := range m.streams {
		sc := *s
		sc.messages = slices.Clone(s.messages)
		sc.once = maps.Clone(s.once)
		sc.answers = slices.Clone(s.answers)
		sc.live = make(map[string]int)
		sc.drains = nil
		for _, d := range s.drains {
			dc := d.copied(&sc)
			c.drains[dc.name] = dc
			sc.drains = append(sc.drains, dc)
		}
		c.streams = append(c.streams, &sc)
	}
	for source, parts := range m.bookmarks {
		c.bookmarks[source] = maps.Clone(parts)
	}
	return c
}

func (d *memDrain) copied(s *memStream) *memDrain {
	c := *d
	c.stream = s
	c.wake = make(chan struct{}, 1)
	c.places = slices.Clone(d.places)
	c.retries = slices.Clone(d.retries)
	c.dead, c.buried = maps.Clone(d.dead), maps.Clone(d.buried)
	c.ready, c.lines, c.parked = nil, make(map[string]*line), 0
	var open []uint64
	for i := range c.places {
		p, offset := &c.places[i], c.start+uint64(i)
		switch {
		case p.state == buffer.Delivering && !p.cancelAt.IsZero():
			c.leave(p, offset)
			p.state, p.at = buffer.Cancelled, p.cancelAt
			c.count(p, offset)
			s.finished(offset)
		case p.state == buffer.Delivering:
			c.wait(p, offset)
		}
		if !p.state.Final() {
			c.enter(offset)
			open = append(open, offset)
		}
	}
	for _, offset := range open {
		c.arrange(offset)
	}
	return &c
}
