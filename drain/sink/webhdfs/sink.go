package webhdfs

import (
	"context"
	"errors"
	"net/http"
	"path"
	"slices"
	"sync"
	"time"

	"forebay/drain"
	sinkhttp "forebay/drain/sink/http"
	"forebay/policies"
)

const (
	// maxAdded bounds the messages and bytes that are added to a file at once, and addWait
	// how long they wait for one another: each time costs some tens of milliseconds.
	maxAdded      = 40_000
	maxAddedBytes = 4 << 20
	addWait       = time.Second
	// maxFile bounds the messages of a file: as long as it is written they are in flight,
	// which takes some 100 bytes of memory each.
	maxFile = 1_000_000
	// maxNameless bounds the files that wait for their names: no other begins meanwhile.
	maxNameless = 4
)

// Sink gathers messages in files. It is safe for concurrent use.
type Sink struct {
	policy    policies.WebHDFSSink
	transport *http.Transport
	client    *client
	codec     codec

	mu      sync.Mutex
	writers map[string]*writer // guarded by mu; by drain
}

// New builds a sink. It connects to nothing. An error says what in the policy it cannot
// work with.
func New(p policies.Sink) (*Sink, error) {
	if p.WebHDFS == nil {
		return nil, errors.New("not a webhdfs sink")
	}
	h := *p.WebHDFS
	if len(h.HTTP.URLs) == 0 {
		return nil, errors.New("no urls")
	}
	transport, err := sinkhttp.NewTransport(h.HTTP, p.Budget.Concurrency)
	if err != nil {
		return nil, err
	}
	c, err := codecOf(h.Compression)
	if err != nil {
		return nil, err
	}
	return &Sink{policy: h, transport: transport, client: newClient(h, transport), codec: c, writers: map[string]*writer{}}, nil
}

// Batch says how many messages Collect takes.
func (s *Sink) Batch() drain.Batch {
	return drain.Batch{Messages: maxAdded, Bytes: maxAddedBytes, Wait: addWait}
}

// Deliver implements drain.Sink. Drains call Collect.
func (s *Sink) Deliver(_ context.Context, msgs []drain.Delivery) []drain.Outcome {
	outs := make([]drain.Outcome, len(msgs))
	for i := range outs {
		outs[i] = drain.Outcome{Unsent: true, Error: "messages gather in files"}
	}
	return outs
}

// Together implements drain.Collector: the messages of one day, without a gap. What is
// missing in a file's range could be waiting for later, and would count as delivered at
// the next start.
func (s *Sink) Together(msgs []drain.Delivery) int {
	day, n := s.date(msgs[0]), 1
	for n < len(msgs) && msgs[n].Offset == msgs[n-1].Offset+1 && s.date(msgs[n]) == day {
		n++
	}
	return n
}

// Collect implements drain.Collector: it compresses a batch. Writing adds it to the
// drain's file, and begins one where there is none; it blocks for at most the sink's total
// time-out, and is settled when the file has its name.
func (s *Sink) Collect(name string, msgs []drain.Delivery) func(context.Context, func(drain.Outcome)) {
	a := addition{held: drain.Range{First: msgs[0].Offset, Last: msgs[len(msgs)-1].Offset}, messages: len(msgs), day: s.day(msgs[0])}
	data, err := s.codec.encode(lines(msgs))
	if err != nil {
		return func(_ context.Context, settled func(drain.Outcome)) {
			settled(drain.Outcome{Error: "compression: " + err.Error(), RetryAfter: deniedWait})
		}
	}
	a.data = data
	return func(ctx context.Context, settled func(drain.Outcome)) { s.writer(name).add(ctx, a, settled) }
}

// Finish implements drain.Collector.
func (s *Sink) Finish(name string) {
	s.mu.Lock()
	w := s.writers[name]
	s.mu.Unlock()
	if w != nil && w.writing.Load() {
		go w.finish()
	}
}

func (s *Sink) writer(name string) *writer {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.writers[name]
	if w == nil {
		w = &writer{sink: s, drain: name, left: newSweeper(s.client)}
		s.writers[name] = w
	}
	return w
}

// Place implements drain.Collector.
func (s *Sink) Place() string { return s.policy.Path }

// Finished implements drain.Collector: it looks at the names of files, and deletes those
// that were left unfinished. Other places are paths of earlier policies; one that the user
// may not look into any more is passed over.
func (s *Sink) Finished(ctx context.Context, name string, since time.Time, others []string) (ranges []drain.Range, err error) {
	now := time.Now()
	own := s.folders(s.policy.Path, since, now)
	folders := own
	for _, place := range others {
		folders = append(folders, s.folders(place, since, now)...)
	}
	for i, folder := range folders {
		if slices.Contains(folders[:i], folder) {
			continue
		}
		found, err := s.finishedIn(ctx, folder, name)
		if err != nil && (i < len(own) || !denied(err)) {
			return nil, err
		}
		ranges = append(ranges, found...)
	}
	return ranges, nil
}

func (s *Sink) finishedIn(ctx context.Context, folder, name string) (ranges []drain.Range, err error) {
	files, err := s.client.list(ctx, folder)
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		if r, ok := rangeOf(file, name); ok {
			ranges = append(ranges, r)
		}
		if isTemporary(file, name) {
			if _, err := s.client.remove(ctx, path.Join(folder, file)); err != nil {
				return ranges, err
			}
		}
	}
	return ranges, nil
}

// CloseIdleConnections finishes all files, since the policy has another sink now, and
// closes connections that are not in use.
func (s *Sink) CloseIdleConnections() {
	s.mu.Lock()
	var names []string
	for name := range s.writers {
		names = append(names, name)
	}
	s.mu.Unlock()
	for _, name := range names {
		s.Finish(name)
	}
	s.transport.CloseIdleConnections()
}

// Gathering implements drain.Gatherer.
func (s *Sink) Gathering() []drain.Gathering {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []drain.Gathering
	for _, w := range s.writers {
		list = append(list, w.gathering()...)
	}
	return list
}
