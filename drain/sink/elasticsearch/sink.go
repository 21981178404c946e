package elasticsearch

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"

	"forebay/drain"
	sinkhttp "forebay/drain/sink/http"
	"forebay/policies"
)

// Sink makes documents of messages. It is safe for concurrent use.
type Sink struct {
	*sinkhttp.Reach
	policy policies.ElasticsearchSink
	// most is how many bytes a request may have as far as is known: the policy's, or
	// fewer once the cluster found one too large.
	most  atomic.Int64
	bulks sync.Pool // of *bulk
	zips  sync.Pool // of *gzip.Writer
}

// New builds a sink. It connects to nothing. An error says what in the policy it
// cannot work with.
func New(p policies.Sink) (*Sink, error) {
	if p.Elasticsearch == nil {
		return nil, errors.New("not an elasticsearch sink")
	}
	e := *p.Elasticsearch
	http := e.HTTP
	http.URLs = make([]*url.URL, len(e.HTTP.URLs))
	for i, u := range e.HTTP.URLs {
		to := *u
		to.Path, to.RawPath = strings.TrimSuffix(u.Path, "/")+"/_bulk", ""
		http.URLs[i] = &to
	}
	r, err := sinkhttp.NewReach(http, p.Budget.Concurrency)
	if err != nil {
		return nil, err
	}
	s := &Sink{Reach: r, policy: e}
	s.most.Store(e.Bulk.MaxBytes)
	return s, nil
}

// Batch says how many messages Deliver takes.
func (s *Sink) Batch() drain.Batch {
	b := s.policy.Bulk
	return drain.Batch{Messages: b.MaxMessages, Bytes: b.MaxBytes, Wait: b.MaxWait}
}

// Deliver implements drain.Sink: one request, or one after the other where the
// cluster finds it too large. It blocks for at most the sink's total time-out per
// request, and sends no other one after the first that fails.
func (s *Sink) Deliver(ctx context.Context, msgs []drain.Delivery) []drain.Outcome {
	outs := make([]drain.Outcome, len(msgs))
	b, _ := s.bulks.Get().(*bulk)
	if b == nil {
		b = new(bulk)
	}
	b.reset()
	for i := range msgs {
		if fault := s.add(b, i, &msgs[i]); fault != "" {
			outs[i] = drain.Outcome{Class: drain.Permanent, Error: fault}
		}
	}
	s.deliver(ctx, b, msgs, outs)
	if cap(b.text) <= maxKept {
		s.bulks.Put(b)
	}
	return outs
}

// deliver sends what b holds. A part that is too large is sent in halves, down to
// single documents; those are given up.
func (s *Sink) deliver(ctx context.Context, b *bulk, msgs []drain.Delivery, outs []drain.Outcome) {
	began := ctx
	for todo := b.parts(s.most.Load()); len(todo) > 0; {
		p := todo[0]
		if p.again {
			var err error
			if began, err = drain.Again(ctx, b.messages(p, msgs)); err != nil {
				b.all(todo, outs, drain.Outcome{Unsent: true, Error: "not sent again"})
				return
			}
		}
		said, failed := s.send(began, b, p, outs)
		switch {
		case said == tooLarge && !p.single():
			s.shrink(int64(len(b.body(p)) / 2))
			todo = append(p.halves(), todo[1:]...)
		case said == refused:
			b.all(todo, outs, failed)
			return
		default:
			todo = todo[1:]
		}
		began = drain.WithBegin(ctx, func() error { return nil }) // it did, with the first request
	}
}

// shrink lowers what a request may have. It stays above half of what the cluster
// takes, which is less than what it found too large.
func (s *Sink) shrink(to int64) {
	for {
		most := s.most.Load()
		if most <= to || s.most.CompareAndSwap(most, to) {
			return
		}
	}
}
