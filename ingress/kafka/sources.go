package kafka

import (
	"cmp"
	"context"
	"log/slog"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"

	"forebay/buffer"
	"forebay/policies"
)

// Buffer is what a source needs of the buffer.
type Buffer interface {
	buffer.Bookmarks
}

// Config is what sources need besides the buffer.
type Config struct {
	// Connect returns the options of a client of a cluster.
	Connect func(policies.KafkaConnection) ([]kgo.Opt, error)
	// Closed reports whether the intake of a stream is closed, and why.
	Closed func(stream string) (reason string, closed bool)
	// Event tells the operator log. It does not block.
	Event func(kind, object, detail string)
}

// Sources are the sources of the running policy. All methods are safe for concurrent use.
type Sources struct {
	cfg     Config
	buf     Buffer
	log     *slog.Logger
	changed chan struct{} // one slot
	look    time.Duration // how often a source looks at its cluster

	mu      sync.Mutex // guards all below
	set     *policies.Set
	readers map[string]*reader // of set, or about to be
}

// New returns sources that do not run. There are none until Apply.
func New(cfg Config, buf Buffer, log *slog.Logger, reg prometheus.Registerer) *Sources {
	s := &Sources{cfg: cfg, buf: buf, log: log, changed: make(chan struct{}, 1), look: lookEvery, readers: map[string]*reader{}}
	if reg != nil {
		reg.MustRegister(newCollector(s))
	}
	return s
}

// Apply makes the sources those of another policy. It does not block: those that it adds
// connect, and those that it takes away or changes end, in a moment. What a source of
// the same name has read is not read again.
func (s *Sources) Apply(set *policies.Set) {
	s.mu.Lock()
	s.set = set
	s.mu.Unlock()
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// Run reads until ctx is done, and returns once nothing more will be appended.
func (s *Sources) Run(ctx context.Context) error {
	var ends endings
	for {
		s.reconcile(ctx, &ends)
		select {
		case <-ctx.Done():
			ends.all()
			return nil
		case <-s.changed:
		}
	}
}

// endings are what ends the readers that run, by name.
type endings map[string]func()

func (e endings) all() {
	var ended sync.WaitGroup
	for _, end := range e {
		ended.Go(end)
	}
	ended.Wait()
}

// reconcile ends the readers that the policy does not have as they are, and begins those
// that it has besides.
func (s *Sources) reconcile(ctx context.Context, running *endings) {
	s.mu.Lock()
	set := s.set
	s.mu.Unlock()
	if set == nil {
		return
	}
	wanted := make(map[string]*reader, len(set.Sources))
	names := make([]string, 0, len(set.Sources))
	kept, gone := endings{}, endings{}
	for i := range set.Sources {
		wanted[set.Sources[i].Name] = s.reader(set, &set.Sources[i])
		names = append(names, set.Sources[i].Name)
	}
	for name, end := range *running {
		old := s.readers[name] // written by this goroutine alone
		if next := wanted[name]; next != nil && next.like(old) {
			kept[name], wanted[name] = end, old
			continue
		}
		gone[name] = func() { end(); old.leave() }
	}
	gone.all()
	if err := s.buf.KeepBookmarks(context.WithoutCancel(ctx), names); err != nil {
		s.log.Error("places of sources that are gone stay", "err", err)
	}
	s.mu.Lock()
	for name, r := range wanted {
		if old := s.readers[name]; old != nil && old != r {
			r.counts = old.counts // they go on
		}
	}
	s.readers = wanted
	s.mu.Unlock()
	for name, r := range wanted {
		if kept[name] == nil {
			kept[name] = r.start(ctx)
		}
	}
	*running = kept
}

func (s *Sources) reader(set *policies.Set, src *policies.Source) *reader {
	return &reader{
		source: *src, cfg: s.cfg, buf: s.buf, log: s.log.With("source", src.Name),
		make:     maker{path: src.Path, stream: set.Stream(src.Stream), set: set},
		parts:    map[string]*assigned{},
		troubles: map[string]string{}, said: map[string]time.Time{}, counts: newCounts(), retry: firstRetry, every: s.look,
	}
}

// like reports whether a reader does what another one does.
func (r *reader) like(other *reader) bool {
	return reflect.DeepEqual(r.source, other.source) && r.make.like(&other.make)
}

func (m *maker) like(other *maker) bool {
	a, b := m.stream, other.stream
	return a.MaxMessageBytes == b.MaxMessageBytes && a.OrderingKey.Equal(b.OrderingKey) && a.CancelKey.Equal(b.CancelKey) && m.set.SameKeyFields(other.set)
}

// Status says where each source of the policy stands, by name. It does not block.
func (s *Sources) Status() []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.set == nil {
		return nil
	}
	all := make([]Status, 0, len(s.set.Sources))
	for i := range s.set.Sources {
		r := s.readers[s.set.Sources[i].Name]
		if r == nil {
			r = s.reader(s.set, &s.set.Sources[i]) // it is about to begin
		}
		all = append(all, r.status())
	}
	slices.SortFunc(all, func(a, b Status) int { return cmp.Compare(a.Name, b.Name) })
	return all
}
