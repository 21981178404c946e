package ship

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Summary is what a run did.
type Summary struct {
	Files       int64 `json:"files"` // that were followed at the end
	Lines       int64 `json:"lines"` // that were taken
	Bytes       int64 `json:"bytes"` // of the files, with the ends of lines
	Batches     int64 `json:"batches"`
	Duplicates  int64 `json:"duplicates"` // batches that had been taken before
	Retries     int64 `json:"retries"`    // requests after which a batch was kept
	Rejected    int64 `json:"rejected"`   // lines that were refused, and written to the file for them
	LostBytes   int64 `json:"lost_bytes"` // that are known to be
	Interrupted bool  `json:"interrupted"`
}

// Shipper ships.
type Shipper struct {
	cfg     Config
	follow  follower
	state   *state
	send    *sender
	results chan []result

	lines, bytes, batches, duplicates, retries, rejected, files atomic.Int64

	sending bool
	turn    int       // whose turn it is first
	fails   int       // in a row
	resume  time.Time // nothing is sent before
	told    time.Time // when a failure was told
	failing time.Time // since when; zero: it is not

	toldRejected time.Time
	strange      int // lines rejected since one was taken
}

// result is what came of a batch.
type result struct {
	file *file
	answer
}

// Open takes the state of cfg.State for this process, and looks for files. Close
// gives it back.
func Open(cfg Config) (*Shipper, error) {
	st, entries, found, err := openState(cfg.State)
	if err != nil {
		return nil, err
	}
	s := &Shipper{cfg: cfg, state: st, results: make(chan []result, 1)}
	s.send = newSender(&s.cfg)
	s.follow = follower{
		cfg: &s.cfg, known: entries, said: map[string]bool{}, atEnd: cfg.FromEnd && !found,
		own: []string{cfg.State, cfg.State + ".new", st.lockPath(), cfg.Rejected},
	}
	// On disk before anything is sent: where files begin, and that it can be written.
	err = s.follow.scan(time.Now())
	if err == nil {
		err = st.save(s.follow.entries())
	}
	if err != nil {
		st.close()
		return nil, err
	}
	return s, nil
}

// Close gives the state back.
func (s *Shipper) Close() { s.state.close() }

// Counts tells how far it is, to any goroutine.
func (s *Shipper) Counts() Summary {
	return Summary{
		Files: s.files.Load(), Lines: s.lines.Load(), Bytes: s.bytes.Load(), Batches: s.batches.Load(),
		Duplicates: s.duplicates.Load(), Retries: s.retries.Load(), Rejected: s.rejected.Load(),
	}
}

// Run follows and ships until ctx ends or, with Once, until the files do. What is
// under way then is waited for. It fails on what no patience mends.
func (s *Shipper) Run(ctx context.Context) (Summary, error) {
	sending, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	tick := time.NewTicker(s.cfg.Poll)
	defer tick.Stop()
	s.look(time.Now())
	var err error
	for polls := 1; err == nil && ctx.Err() == nil; {
		s.round(sending, time.Now())
		if s.finished() {
			break
		}
		select {
		case rs := <-s.results:
			err = s.settle(rs, time.Now())
		case <-tick.C:
			if polls++; polls%rescan == 0 {
				err = s.follow.scan(time.Now())
			}
			s.look(time.Now())
		case <-ctx.Done():
		}
	}
	err = errors.Join(err, s.end(stop))
	sum := s.Counts()
	sum.LostBytes, sum.Interrupted = s.follow.lost, ctx.Err() != nil
	return sum, err
}

// look sees what is new in the files.
func (s *Shipper) look(now time.Time) {
	for _, f := range slices.Clone(s.follow.files) {
		if f.h != nil {
			s.follow.check(f, now)
		}
	}
	s.follow.tidy(now)
	s.files.Store(int64(len(s.follow.files)))
}

// finished reports whether the files end here. The last look may be a while ago.
func (s *Shipper) finished() bool {
	if !s.cfg.Once || s.sending {
		return false
	}
	s.look(time.Now())
	return !slices.ContainsFunc(s.follow.files, func(f *file) bool { return !f.idle() })
}

// round sends a batch of each of a few files, whose ends are on disk before.
func (s *Shipper) round(ctx context.Context, now time.Time) {
	if s.sending {
		return
	}
	var jobs []*file
	if !now.Before(s.resume) {
		jobs = s.choose(now)
	}
	if err := s.state.save(s.follow.entries()); err != nil {
		s.fail(answer{reason: err.Error()}, now)
		return
	}
	if len(jobs) == 0 {
		return
	}
	s.sending = true
	for _, f := range jobs {
		f.underway = true
	}
	go func() { s.results <- s.sendAll(ctx, jobs) }()
}

// sendAll sends the first batch of each file.
func (s *Shipper) sendAll(ctx context.Context, jobs []*file) []result {
	results := make([]result, len(jobs))
	var wg sync.WaitGroup
	for i, f := range jobs {
		wg.Go(func() {
			results[i] = result{f, s.send.send(ctx, fmt.Sprintf("%s:%d-%d", f.Name, f.Acked, f.Waiting[0]), f.first())}
		})
	}
	wg.Wait()
	return results
}

// choose takes files that have a batch to send: those whose batch is in memory already,
// which bounds how many are, and then others in turn.
func (s *Shipper) choose(now time.Time) (jobs []*file) {
	all := slices.Clone(s.follow.files)
	take := func(f *file) {
		if len(jobs) < atOnce && f.due(now, &s.cfg) && s.ready(f, now) {
			jobs = append(jobs, f)
		}
	}
	for _, f := range all {
		if len(f.Waiting) > 0 {
			take(f)
		}
	}
	for i := 0; i < len(all) && len(jobs) < atOnce; i++ {
		if f := all[(s.turn+i)%len(all)]; !slices.Contains(jobs, f) {
			if take(f); len(jobs) == atOnce {
				s.turn = (s.turn + i + 1) % len(all)
				break
			}
		}
	}
	return jobs
}

// ready sees to it that a file's first batch is in memory, and has lines.
func (s *Shipper) ready(f *file, now time.Time) bool {
	if err := f.load(); errors.Is(err, io.EOF) {
		s.follow.restart(f, f.read(), now)
		return false
	} else if err != nil {
		s.follow.once(fmt.Sprintf("cannot read %v", err))
		return false
	}
	for {
		if len(f.Waiting) == 0 {
			ok, err := f.next(now, &s.cfg)
			if err != nil {
				s.follow.once(fmt.Sprintf("cannot read %v", err))
			}
			if !ok {
				return false
			}
		}
		if countLines(f.first()) > 0 {
			return true
		}
		if f.taken(); f.h == nil || f.size <= f.read() {
			return false
		}
	}
}

// end waits for what is under way, and remembers how far everything is.
func (s *Shipper) end(stop func()) error {
	var err error
	if s.sending {
		limit := time.AfterFunc(farewell, stop)
		err = s.settle(<-s.results, time.Now())
		limit.Stop()
	}
	err = errors.Join(err, s.state.save(s.follow.entries()))
	for _, f := range slices.Clone(s.follow.files) {
		s.follow.drop(f)
	}
	s.send.client.CloseIdleConnections()
	return err
}
