package ingresstest

import (
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Sink is a service that takes orders, and answers them as badly as services do: late,
// busy, failing, or not at all. It is safe for concurrent use.
type Sink struct {
	history  *History
	patience time.Duration
	well     atomic.Bool

	mu  sync.Mutex
	rng *rand.Rand
}

// NewSink returns a sink that writes down what it sees. The seed repeats its choices.
// patience is how long the other side waits for an answer.
func NewSink(h *History, seed uint64, patience time.Duration) *Sink {
	return &Sink{history: h, patience: patience, rng: rand.New(rand.NewPCG(seed, 1))}
}

// Recover has the sink answer well from now on.
func (s *Sink) Recover() { s.well.Store(true) }

// order is the body of a request.
type order struct {
	Customer string `json:"customer"`
	ID       string `json:"id"`
}

// ServeHTTP implements http.Handler.
func (s *Sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	var o order
	body, err := io.ReadAll(r.Body)
	if err != nil || json.Unmarshal(body, &o) != nil {
		http.Error(w, "no order", http.StatusBadRequest)
		return
	}
	n := s.history.begin(Attempt{Key: o.Customer, ID: o.ID, Live: r.Header.Get("Forebay-Id") == ""})
	status, after := s.choose()
	switch status {
	case silent: // it says nothing, and has done nothing
		<-r.Context().Done()
		s.history.end(n, false, true)
		return
	case mute: // it has done it, and says nothing
		s.history.succeed(n)
		<-r.Context().Done()
		s.history.end(n, true, true)
		return
	}
	select {
	case <-time.After(after):
	case <-r.Context().Done():
	}
	// On a slow machine the other side gives up before this one takes note.
	cut := r.Context().Err() != nil || time.Since(began) > s.patience/3
	s.history.end(n, status == http.StatusOK && r.Context().Err() == nil, cut)
	w.WriteHeader(status)
}

// What stands for no answer at all.
const (
	silent = 0
	mute   = 1
)

func (s *Sink) choose() (status int, after time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	after = time.Duration(s.rng.Int64N(int64(4 * time.Millisecond)))
	if s.well.Load() {
		return http.StatusOK, after
	}
	switch x := s.rng.IntN(1000); {
	case x < 80:
		return http.StatusServiceUnavailable, after
	case x < 120:
		return http.StatusTooManyRequests, after
	case x < 150:
		return http.StatusInternalServerError, after
	case x < 153:
		return silent, 0
	case x < 155:
		return mute, 0
	case x < 200:
		return http.StatusOK, 10 * after
	}
	return http.StatusOK, after
}
