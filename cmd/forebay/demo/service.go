package demo

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// service is an order service as many are: a few workers, each busy with one
// order for a while, a short queue before them, 503 when that is full, and
// slower the longer the queue is. Its limit is not a rule but what the workers
// can do.
type service struct {
	limit    float64 // orders a second
	perOrder time.Duration
	workers  chan time.Time // those that are free, by the time since when
	places   chan struct{}  // of workers and queue together

	started time.Time

	mu       sync.Mutex                // guards what follows
	arrivals []time.Duration           // since started, in order of arrival
	taken    map[[sha256.Size]byte]int // answered 201, by the body's hash
	refused  int                       // answered 503
}

// newService returns a service that can take limit orders a second: six workers
// that need 50 ms for each, or as many more as the limit asks for. Its queue is
// twice as long.
func newService(limit float64) *service {
	workers := max(1, int(math.Round(6*limit/baseLimit)))
	s := &service{
		limit:    limit,
		perOrder: time.Duration(float64(workers) / limit * float64(time.Second)),
		workers:  make(chan time.Time, workers),
		places:   make(chan struct{}, 3*workers),
		started:  time.Now(),
		taken:    map[[sha256.Size]byte]int{},
	}
	for range workers {
		s.workers <- s.started
	}
	return s
}

// ServeHTTP takes one order.
func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.arrived()
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	if err != nil {
		http.Error(w, "cannot read the order", http.StatusBadRequest)
		return
	}
	select {
	case s.places <- struct{}{}:
		defer func() { <-s.places }()
	default:
		s.mu.Lock()
		s.refused++
		s.mu.Unlock()
		http.Error(w, "too many orders", http.StatusServiceUnavailable)
		return
	}
	if !s.work(r.Context()) {
		return // the caller has gone
	}
	s.mu.Lock()
	s.taken[sha256.Sum256(body)]++
	s.mu.Unlock()
	w.WriteHeader(http.StatusCreated)
}

// work keeps a worker busy with one order, up to 15 % longer the more wait behind it.
func (s *service) work(ctx context.Context) bool {
	var from time.Time
	select {
	case from = <-s.workers:
	case <-ctx.Done():
		return false
	}
	// A worker that comes from another order starts where that one ended, so
	// that a late timer does not make the service weaker than it says.
	if now := time.Now(); now.Sub(from) > s.perOrder/4 {
		from = now
	}
	behind := max(0, len(s.places)-cap(s.workers))
	until := from.Add(s.perOrder + s.perOrder*time.Duration(15*behind)/time.Duration(200*cap(s.workers)))
	defer func() { s.workers <- until }()
	busy := time.NewTimer(time.Until(until))
	defer busy.Stop()
	select {
	case <-busy.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (s *service) arrived() {
	at := time.Since(s.started)
	s.mu.Lock()
	s.arrivals = append(s.arrivals, at)
	s.mu.Unlock()
}

// record is what a service saw.
type record struct {
	attempts int
	refused  int
	peak     int // most attempts in any second
	taken    map[[sha256.Size]byte]int
}

func (s *service) record() record {
	s.mu.Lock()
	defer s.mu.Unlock()
	return record{attempts: len(s.arrivals), refused: s.refused, peak: peak(slices.Clone(s.arrivals)), taken: s.taken}
}

// peak returns the most arrivals in any window of one second.
func peak(arrivals []time.Duration) int {
	slices.Sort(arrivals) // two handlers may have noted theirs out of order
	most, first := 0, 0
	for i, at := range arrivals {
		for arrivals[first] <= at-time.Second {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}

// listen serves s on a free port of loopback until stop is called.
func (s *service) listen(log *slog.Logger) (url string, stop func(), err error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, fmt.Errorf("listen for the order service: %w", err)
	}
	srv := &http.Server{
		Handler: s, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: 30 * time.Second,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			log.Error("order service ended", "err", err)
		}
	}()
	return "http://" + ln.Addr().String(), func() {
		_ = srv.Close() // whoever is still connected is part of this process
		<-done
	}, nil
}
