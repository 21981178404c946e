package app

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"forebay/buffer"
	"forebay/cmd/forebay/admin"
	"forebay/drain"
	"forebay/limiter"
	"forebay/policies"
)

// hands are what operators lay on drains and sinks; drain.Drains has them. They take hold
// in under a second, on what is queued too, and end by themselves.
type hands interface {
	Pause(drain string, until time.Time, reason string) error
	Resume(drain string) error
	Override(drain string, rate limiter.Rate, until time.Time, reason string) error
	ClearOverride(drain string) error
	PauseSink(sink string, until time.Time, reason string) error
	ResumeSink(sink string) error
	// Forget ends what is held of a drain that is not in the policy.
	Forget(drain string) []drain.Hold
}

// operated is what operators reach into the buffer for.
type operated interface {
	buffer.DeadLetters
	buffer.Searcher
	buffer.Remover
	Ref(id string) (buffer.Ref, error)
	ID(ref buffer.Ref) string
	Stats() buffer.Stats
}

// operator does what operators ask for, and keeps an event of each.
type operator struct {
	buf    operated
	hands  hands
	gate   *gate
	keeper *keeper
	events *eventLog
}

// acts are the operator's, by the path that the API has them at.
func acts() map[string]func(*operator, context.Context, admin.Act) (any, error) {
	return map[string]func(*operator, context.Context, admin.Act) (any, error){
		"POST /drains/{name}/pause":   (*operator).pause,
		"POST /drains/{name}/resume":  (*operator).resume,
		"PUT /drains/{name}/rate":     (*operator).setRate,
		"DELETE /drains/{name}/rate":  (*operator).clearRate,
		"POST /drains/{name}/drop":    (*operator).dropDrain,
		"POST /sinks/{name}/pause":    (*operator).pauseSink,
		"POST /sinks/{name}/resume":   (*operator).resumeSink,
		"POST /streams/{name}/close":  (*operator).closeStream,
		"POST /streams/{name}/open":   (*operator).openStream,
		"POST /streams/{name}/drop":   (*operator).dropStream,
		"POST /streams/{name}/cancel": (*operator).cancelKey,
		"POST /dead/replay":           (*operator).replay,
		"DELETE /dead":                (*operator).dropDead,
	}
}

// held is the answer of an act that has nothing to count.
type held struct {
	Name  string     `json:"name"`
	Until admin.Time `json:"until"` // when it ends by itself; null: it does not
}

func (o *operator) pause(_ context.Context, a admin.Act) (any, error) {
	if err := a.NeedsReason(); err != nil {
		return nil, err
	}
	until := a.Until(time.Now())
	if err := o.hands.Pause(a.Object, until, a.Reason); err != nil {
		return nil, actError("drain "+a.Object, err)
	}
	o.record("drain-pause", a, untilText(until))
	return held{a.Object, admin.Time{Time: until}}, nil
}

func (o *operator) resume(_ context.Context, a admin.Act) (any, error) {
	if err := o.hands.Resume(a.Object); err != nil {
		return nil, actError("drain "+a.Object, err)
	}
	o.record("drain-resume", a, "")
	return held{Name: a.Object}, nil
}

func (o *operator) pauseSink(_ context.Context, a admin.Act) (any, error) {
	if err := a.NeedsReason(); err != nil {
		return nil, err
	}
	until := a.Until(time.Now())
	if err := o.hands.PauseSink(a.Object, until, a.Reason); err != nil {
		return nil, actError("sink "+a.Object, err)
	}
	o.record("sink-pause", a, untilText(until))
	return held{a.Object, admin.Time{Time: until}}, nil
}

func (o *operator) resumeSink(_ context.Context, a admin.Act) (any, error) {
	if err := o.hands.ResumeSink(a.Object); err != nil {
		return nil, actError("sink "+a.Object, err)
	}
	o.record("sink-resume", a, "")
	return held{Name: a.Object}, nil
}

func (o *operator) setRate(_ context.Context, a admin.Act) (any, error) {
	switch err := a.NeedsReason(); {
	case err != nil:
		return nil, err
	case a.Rate == nil:
		return nil, admin.Invalid("rate is missing: a number of messages a second, a text such as 3000/m, or unlimited")
	case a.ForSeconds == 0:
		return nil, admin.Invalid("for_seconds is missing: an override has to end")
	}
	until := a.Until(time.Now())
	if err := o.hands.Override(a.Object, limiter.Rate(*a.Rate), until, a.Reason); err != nil {
		return nil, actError("drain "+a.Object, err)
	}
	o.record("drain-rate", a, a.Rate.String()+" "+untilText(until))
	return held{a.Object, admin.Time{Time: until}}, nil
}

func (o *operator) clearRate(_ context.Context, a admin.Act) (any, error) {
	if err := o.hands.ClearOverride(a.Object); err != nil {
		return nil, actError("drain "+a.Object, err)
	}
	o.record("drain-rate-clear", a, "")
	return held{Name: a.Object}, nil
}

func (o *operator) dropDrain(ctx context.Context, a admin.Act) (any, error) {
	return o.drop(ctx, a, "drain-drop", o.buf.DropDrain, func() []string { return o.forget(a.Object) })
}

func (o *operator) dropStream(ctx context.Context, a admin.Act) (any, error) {
	var drains []string // before they are gone
	for _, d := range o.buf.Stats().Drains {
		if d.Stream == a.Object {
			drains = append(drains, d.Drain)
		}
	}
	return o.drop(ctx, a, "stream-drop", o.buf.DropStream, func() []string {
		ended := o.reopen(a.Object)
		for _, d := range drains {
			ended = append(ended, o.forget(d)...)
		}
		return ended
	})
}

// drop gives up all that is left of a drain or stream. What is not in the policy
// takes along what operators hold back of it, which may be all that is left.
func (o *operator) drop(ctx context.Context, a admin.Act, kind string,
	do func(context.Context, string, time.Time) (int, error), end func() []string,
) (any, error) {
	if err := a.NeedsReason(); err != nil {
		return nil, err
	}
	n, err := do(ctx, a.Object, time.Now())
	gone := errors.Is(err, buffer.ErrNoDrain) || errors.Is(err, buffer.ErrNoStream)
	if err != nil && !gone {
		return nil, err
	}
	ended := end()
	if gone && len(ended) == 0 {
		return nil, actError(strings.TrimSuffix(kind, "-drop")+" "+a.Object, err)
	}
	o.record(kind, a, strings.Join(append([]string{messages(uint64(n)) + " cancelled"}, ended...), "; "))
	return admin.Cancelled{Cancelled: n}, nil
}

// forget ends the holds on a drain that is not in the policy, and says which.
func (o *operator) forget(name string) (ended []string) {
	for _, h := range o.hands.Forget(name) {
		ended = append(ended, fmt.Sprintf("the %s hold on drain %s (%s) is ended", h.Kind, name, h.Reason))
	}
	return ended
}

// reopen ends the closure of a stream that is not in the policy, and says so.
func (o *operator) reopen(name string) []string {
	for _, s := range o.buf.Stats().Streams {
		if s.Stream == name && !s.Orphaned {
			return nil
		}
	}
	if !o.gate.open(name) {
		return nil
	}
	o.keeper.streams(o.gate.list())
	return []string{"stream " + name + " is not closed any more"}
}

func (o *operator) closeStream(_ context.Context, a admin.Act) (any, error) {
	if err := a.NeedsReason(); err != nil {
		return nil, err
	}
	if !o.hasStream(a.Object) {
		return nil, fmt.Errorf("stream %s: %w", a.Object, admin.ErrNotFound)
	}
	now := time.Now()
	until := a.Until(now)
	o.gate.close(closure{Stream: a.Object, Since: now, Until: until, Reason: a.Reason})
	o.keeper.streams(o.gate.list())
	o.record("stream-close", a, untilText(until))
	return held{a.Object, admin.Time{Time: until}}, nil
}

func (o *operator) openStream(_ context.Context, a admin.Act) (any, error) {
	// A closure may outlive its stream: it can be opened all the same.
	if !o.gate.open(a.Object) && !o.hasStream(a.Object) {
		return nil, fmt.Errorf("stream %s: %w", a.Object, admin.ErrNotFound)
	}
	o.keeper.streams(o.gate.list())
	o.record("stream-open", a, "")
	return held{Name: a.Object}, nil
}

// opened takes note that a closure has ended by itself.
func (o *operator) opened(c closure) {
	o.keeper.streams(o.gate.list())
	o.events.add(time.Now(), admin.Event{Kind: "stream-open", Object: c.Stream, Actor: actorProgram, Reason: c.Reason, Detail: "its time is over"})
}

func (o *operator) cancelKey(ctx context.Context, a admin.Act) (any, error) {
	if a.Key == "" {
		return nil, admin.Invalid("key is missing")
	}
	n, err := o.buf.CancelKey(ctx, a.Object, policies.StoredKey(a.Key), time.Now())
	if err != nil {
		return nil, actError("stream "+a.Object, err)
	}
	o.record("stream-cancel", a, messages(uint64(n))+" cancelled") // the key is a customer's, and stays out
	return admin.Cancelled{Cancelled: n}, nil
}

func (o *operator) hasStream(name string) bool {
	for _, s := range o.buf.Stats().Streams {
		if s.Stream == name {
			return true
		}
	}
	return false
}

func (o *operator) streamOf(drain string) (string, error) {
	for _, d := range o.buf.Stats().Drains {
		if d.Drain == drain {
			return d.Stream, nil
		}
	}
	return "", fmt.Errorf("drain %s: %w", drain, admin.ErrNotFound)
}

func (o *operator) record(kind string, a admin.Act, detail string) {
	o.events.add(time.Now(), admin.Event{Kind: kind, Object: a.Object, Actor: a.Actor, Reason: a.Reason, Detail: detail})
}

// actError makes a name that the buffer or the drains do not know one that the
// API answers so; what names it.
func actError(what string, err error) error {
	if errors.Is(err, buffer.ErrNoDrain) || errors.Is(err, buffer.ErrNoStream) || errors.Is(err, drain.ErrNoSink) {
		return fmt.Errorf("%s: %w", what, admin.ErrNotFound)
	}
	return err
}

func untilText(until time.Time) string {
	if until.IsZero() {
		return "until it is undone"
	}
	return "until " + until.UTC().Format(time.RFC3339)
}
