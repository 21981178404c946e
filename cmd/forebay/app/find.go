package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"forebay/buffer"
	"forebay/cmd/forebay/admin"
	"forebay/ingress"
	"forebay/policies"
)

// maxFound bounds the receipts of one answer.
const maxFound = 100

// find returns receipts: of the unfinished messages of an ordering key, or of what a
// request with an idempotency key stored.
func (l *live) find(ctx context.Context, q admin.MessagesQuery) (any, error) {
	var refs []buffer.Ref
	var err error
	if q.Key != "" {
		refs, err = l.engine.FindKey(ctx, q.Stream, policies.StoredKey(q.Key), maxFound)
	} else {
		refs, err = l.sentWith(ctx, q.Stream, q.IdempotencyKey)
	}
	if err != nil {
		return nil, actError("stream "+q.Stream, err)
	}
	list := []ingress.Receipt{}
	for _, ref := range refs {
		r, err := l.handler.Receipts().Get(l.engine.ID(ref), time.Now())
		if errors.Is(err, buffer.ErrGone) || errors.Is(err, buffer.ErrNoMessage) {
			continue // it ended meanwhile, or longer ago than its key is known
		}
		if err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	return list, nil
}

// sentWith are the messages that requests with an idempotency key stored. A key
// belongs to its route, so that every route of the stream may have one.
func (l *live) sentWith(ctx context.Context, stream, value string) ([]buffer.Ref, error) {
	if !l.hasStream(stream) {
		return nil, buffer.ErrNoStream
	}
	var refs []buffer.Ref
	set := l.reloader.policy()
	for i := range set.Routes {
		route := &set.Routes[i]
		if route.Stream != stream {
			continue
		}
		keys, err := ingress.OnceKeys(route, value)
		if err != nil {
			return nil, admin.Invalid(err.Error())
		}
		for _, key := range keys {
			a, err := l.engine.Lookup(ctx, stream, key, time.Now())
			if errors.Is(err, buffer.ErrNoMessage) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("route %s: %w", route.Name, err)
			}
			for n := range min(a.Count, maxFound-len(refs)) {
				refs = append(refs, buffer.Ref{Stream: stream, Offset: a.First + uint64(n)})
			}
		}
	}
	return refs, nil
}
