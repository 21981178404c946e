package app

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"forebay/drain"
)

const (
	// restNote begins the keys of the engine's notes that hold pauses of sinks.
	restNote = "rest "
	// restEvery is how long the next pauses gather: a sink that refuses all asks many
	// times a second, each time until a little later.
	restEvery = 100 * time.Millisecond
)

// notebook is what is needed of an engine to keep pauses.
type notebook interface {
	Note(ctx context.Context, texts map[string]string) error
	Notes() map[string]string
}

// rests keeps the pauses that sinks ask for, so that they survive a restart. The first is
// written at once, with the next commit. It holds no drain up.
type rests struct {
	notes notebook
	log   *slog.Logger
	more  chan struct{} // one slot; there is something to write

	mu   sync.Mutex
	news map[string]string // guarded by mu; notes to be written

	failed bool // the last write, which was told; run's alone
}

func newRests(notes notebook, log *slog.Logger) *rests {
	return &rests{notes: notes, log: log, more: make(chan struct{}, 1), news: map[string]string{}}
}

// changed implements drain.Config.RestChanged.
func (r *rests) changed(rest drain.Rest) {
	text, err := json.Marshal(rest)
	if err != nil {
		r.log.Error("a sink's pause will not survive a restart", "sink", rest.Sink, "err", err)
		return
	}
	r.add(restNote+rest.Sink, string(text))
}

func (r *rests) add(key, text string) {
	r.mu.Lock()
	r.news[key] = text
	r.mu.Unlock()
	select {
	case r.more <- struct{}{}:
	default: // it says the same
	}
}

// known are those that were kept. What is over is forgotten, and so is what cannot be read.
func (r *rests) known(now time.Time) (list []drain.Rest) {
	for key, text := range r.notes.Notes() {
		name, ok := strings.CutPrefix(key, restNote)
		if !ok {
			continue
		}
		rest := drain.Rest{Sink: name}
		if err := json.Unmarshal([]byte(text), &rest); err != nil || !rest.Until.After(now) {
			r.add(key, "")
			continue
		}
		list = append(list, rest)
	}
	return list
}

// run writes until ctx is done, and then what is left.
func (r *rests) run(ctx context.Context) {
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-r.more:
		}
		r.write(ctx)
		select {
		case <-ctx.Done():
		case <-time.After(restEvery):
		}
	}
	r.write(ctx)
}

func (r *rests) write(ctx context.Context) {
	r.mu.Lock()
	news := r.news
	r.news = map[string]string{}
	r.mu.Unlock()
	if len(news) == 0 {
		return
	}
	err := r.notes.Note(context.WithoutCancel(ctx), news)
	if err != nil && !r.failed {
		r.log.Warn("pauses that sinks asked for will not survive a restart", "err", err)
	}
	r.failed = err != nil
}

// startRests runs it until everything that could tell it of pauses has ended.
func startRests(r *rests, group *errgroup.Group, down *teardown) {
	running, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	group.Go(func() error {
		defer close(ended)
		r.run(running)
		return nil
	})
	down.push("pauses of sinks", func(context.Context) error {
		cancel()
		<-ended
		return nil
	})
}
