package app

import (
	"context"
	"log/slog"
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"forebay/drain"
)

// page is a notebook in memory.
type page struct {
	texts  map[string]string
	writes int
}

func (p *page) Note(_ context.Context, texts map[string]string) error {
	p.writes++
	for key, text := range texts {
		if p.texts[key] = text; text == "" {
			delete(p.texts, key)
		}
	}
	return nil
}

func (p *page) Notes() map[string]string { return maps.Clone(p.texts) }

// Pauses are written at once, then a few times a second; those that are over go, and what
// others keep stays.
func TestRestsAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &page{texts: map[string]string{"folder x": "/x", "rest torn": "{"}}
		r := newRests(p, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); r.run(ctx) }()
		began := time.Now().Round(0)
		rest := drain.Rest{Sink: "sms", Until: began.Add(time.Hour), Wanted: 2 * time.Hour, Honoured: time.Hour, By: "RateLimit"}
		r.changed(drain.Rest{Sink: "email", Until: began.Add(time.Minute), Wanted: time.Minute, Honoured: time.Minute})
		synctest.Wait()
		if p.texts["rest email"] == "" {
			t.Error("the first pause is not written at once")
		}
		for range 1000 {
			r.changed(rest)
			<-time.After(time.Millisecond)
		}
		rest.Until = rest.Until.Add(time.Second)
		r.changed(rest)
		cancel()
		<-ended
		if p.writes > 15 {
			t.Errorf("%d writes in a second", p.writes)
		}
		r = newRests(p, r.log)
		if diff := cmp.Diff([]drain.Rest{rest}, r.known(began.Add(2*time.Minute))); diff != "" {
			t.Errorf("known after a restart (-want +got):\n%s", diff)
		}
		r.run(ctx) // which is done: it writes what there is
		if len(p.texts) != 2 || p.texts["folder x"] == "" || p.texts["rest sms"] == "" {
			t.Errorf("kept: %v", p.texts)
		}
	})
}
