package app

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"forebay/buffer"
	"forebay/cmd/forebay/admin"
)

const (
	// deadPage is how many dead letters are looked at, or brought back, at a time.
	deadPage = 1000
	// maxDeadLooked bounds what one page of a list looks at to find what matches.
	maxDeadLooked = 100_000
	// noOffset comes before every offset.
	noOffset = ^uint64(0)
)

// deadLetters lists those of a drain that match, from a cursor on.
func (o *operator) deadLetters(sel admin.Selection, page admin.DeadPage) (admin.Page[admin.Dead], error) {
	m, err := o.matcher(sel)
	if err != nil {
		return admin.Page[admin.Dead]{}, err
	}
	after := noOffset
	if page.After != "" {
		if after, err = strconv.ParseUint(page.After, 10, 64); err != nil {
			return admin.Page[admin.Dead]{}, admin.Invalid("after is not the next of a page before")
		}
	}
	var out admin.Page[admin.Dead]
	for looked := 0; looked < maxDeadLooked; {
		list, more, err := o.buf.Dead(sel.Drain, after, deadPage)
		if err != nil {
			return out, deadError(sel.Drain, err)
		}
		looked += len(list)
		for i, d := range list {
			after = d.Offset
			if !m.matches(d) {
				continue
			}
			out.Items = append(out.Items, deadView(d))
			if len(out.Items) == page.Limit && (more || i < len(list)-1) {
				return withNext(out, after), nil
			}
		}
		if !more {
			return out, nil
		}
	}
	return withNext(out, after), nil
}

func withNext(p admin.Page[admin.Dead], after uint64) admin.Page[admin.Dead] {
	next := strconv.FormatUint(after, 10)
	p.Next = &next
	return p
}

// deadLetter shows one whole: that of the named drain, or of the first that has it.
func (o *operator) deadLetter(id, drain string) (admin.DeadMessage, error) {
	ref, err := o.buf.Ref(id)
	if err != nil {
		return admin.DeadMessage{}, fmt.Errorf("dead letter %s: %w", id, admin.ErrNotFound)
	}
	for _, d := range o.buf.Stats().Drains {
		if d.Stream != ref.Stream || (drain != "" && d.Drain != drain) {
			continue
		}
		letter, m, err := o.buf.DeadMessage(d.Drain, ref.Offset)
		if errors.Is(err, buffer.ErrNoMessage) {
			continue
		}
		if err != nil {
			return admin.DeadMessage{}, fmt.Errorf("dead letter %s: %w", id, err)
		}
		out := admin.DeadMessage{Dead: deadView(letter), Method: m.Method, Target: m.Target, Header: [][2]string{}, Body: m.Body}
		for _, f := range m.Fields() {
			out.Header = append(out.Header, [2]string{f.Name, f.Value})
		}
		return out, nil
	}
	return admin.DeadMessage{}, fmt.Errorf("dead letter %s: %w", id, admin.ErrNotFound)
}

// replay brings dead letters back. They leave at the drain's own pace.
func (o *operator) replay(ctx context.Context, a admin.Act) (any, error) {
	if a.Rate != nil {
		return nil, admin.Invalid("a replay leaves at the drain's own pace, rate is none of its fields: 'forebay dead replay --rate' brings dead letters back bit by bit, as can be done with ids")
	}
	matched, done, err := o.settle(ctx, a, o.buf.Replay, "dead-replay")
	return admin.Replayed{Drain: a.Drain, Matched: matched, Replayed: done, DryRun: a.DryRun}, err
}

// dropDead gives dead letters up for good.
func (o *operator) dropDead(ctx context.Context, a admin.Act) (any, error) {
	matched, done, err := o.settle(ctx, a, o.buf.DropDead, "dead-drop")
	return admin.Dropped{Drain: a.Drain, Matched: matched, Dropped: done, DryRun: a.DryRun}, err
}

// settle does something with all dead letters that match, in order and page by
// page. What was done before a failure stays done, and is in the operator log.
func (o *operator) settle(ctx context.Context, a admin.Act, do func(context.Context, string, []uint64, time.Time) (int, error), kind string) (matched, done int, err error) {
	offsets, err := o.matching(a.Selection)
	if err != nil || a.DryRun {
		return len(offsets), 0, err
	}
	for page := range slices.Chunk(offsets, deadPage) {
		n, failed := do(ctx, a.Drain, page, time.Now())
		done += n
		if failed != nil {
			err = fmt.Errorf("%s of drain %s: %w", kind, a.Drain, failed)
			break
		}
	}
	a.Object = a.Drain
	o.record(kind, a, fmt.Sprintf("%d of %s%s", done, messages(uint64(len(offsets))), selectionText(a.Selection)))
	return len(offsets), done, err
}

// matching finds the offsets of all that match. Where ids are asked for it looks
// at what lies between the first and the last of them alone.
func (o *operator) matching(sel admin.Selection) ([]uint64, error) {
	m, err := o.matcher(sel)
	if err != nil {
		return nil, err
	}
	after, last := m.span()
	var offsets []uint64
	for {
		list, more, err := o.buf.Dead(sel.Drain, after, deadPage)
		if err != nil {
			return nil, deadError(sel.Drain, err)
		}
		for _, d := range list {
			after = d.Offset
			if m.matches(d) {
				offsets = append(offsets, d.Offset)
			}
		}
		if !more || len(list) == 0 || after >= last {
			return offsets, nil
		}
	}
}

// matcher is a selection that was looked at.
type matcher struct {
	diedOf  buffer.Reason // empty: any
	since   time.Time
	offsets map[uint64]bool // nil: any
}

func (o *operator) matcher(sel admin.Selection) (matcher, error) {
	if sel.Drain == "" {
		return matcher{}, admin.Invalid("drain is missing")
	}
	m := matcher{diedOf: buffer.Reason(sel.DiedOf), since: sel.Since.Time}
	if m.diedOf != "" && !slices.Contains(buffer.Reasons(), m.diedOf) {
		return matcher{}, admin.Invalid(fmt.Sprintf("died_of is %q, and none of %v", sel.DiedOf, buffer.Reasons()))
	}
	stream, err := o.streamOf(sel.Drain)
	if err != nil || len(sel.IDs) == 0 {
		return m, err
	}
	m.offsets = make(map[uint64]bool, len(sel.IDs))
	for _, id := range sel.IDs {
		ref, err := o.buf.Ref(id)
		if err != nil || ref.Stream != stream {
			return matcher{}, fmt.Errorf("message %s in stream %s: %w", id, stream, admin.ErrNotFound)
		}
		m.offsets[ref.Offset] = true
	}
	return m, nil
}

// span is the offset after which to look, and the last one to look at.
func (m matcher) span() (after, last uint64) {
	if m.offsets == nil {
		return noOffset, noOffset
	}
	sought := slices.Sorted(maps.Keys(m.offsets))
	return sought[0] - 1, sought[len(sought)-1] // before 0 is noOffset
}

func (m matcher) matches(d buffer.DeadLetter) bool {
	switch {
	case m.diedOf != "" && d.Reason != m.diedOf:
		return false
	case d.At.Before(m.since):
		return false
	default:
		return m.offsets == nil || m.offsets[d.Offset]
	}
}

func deadError(drain string, err error) error {
	if errors.Is(err, buffer.ErrNoDrain) {
		err = admin.ErrNotFound
	}
	return fmt.Errorf("drain %s: %w", drain, err)
}

func deadView(d buffer.DeadLetter) admin.Dead {
	return admin.Dead{
		ID: d.ID, Stream: d.Stream, Drain: d.Drain, Key: d.Key, Reason: string(d.Reason), Status: d.Status,
		Attempts: d.Attempts, LastError: d.Error, AcceptedAt: admin.Time{Time: d.AcceptedAt},
		FirstAttemptAt: admin.Time{Time: d.FirstAt}, BuriedAt: admin.Time{Time: d.At},
	}
}

func selectionText(s admin.Selection) string {
	var b strings.Builder
	if s.DiedOf != "" {
		b.WriteString(", died_of " + s.DiedOf)
	}
	if !s.Since.IsZero() {
		b.WriteString(", since " + s.Since.UTC().Format(time.RFC3339))
	}
	if len(s.IDs) > 0 {
		b.WriteString(", by id")
	}
	return b.String()
}
