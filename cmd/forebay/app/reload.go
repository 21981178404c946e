package app

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"forebay/buffer"
	"forebay/cmd/forebay/admin"
	"forebay/policies"
)

// maxPolicyBytes bounds what is read of one file to see whether it changed. A
// policy file that is larger is refused when it is loaded.
const maxPolicyBytes = 64 << 20

// engine is what a reload needs of the buffer.
type engine interface {
	Configure([]buffer.Stream) error
	Stats() buffer.Stats
}

// reloader holds the running policy and replaces it, whole or not at all.
type reloader struct {
	paths   []string
	engine  engine
	apply   func(*policies.Set) error    // the drains; an error changes nothing
	follow  func(*policies.Set)          // what cannot fail
	events  func(time.Time, admin.Event) // the operator log
	log     *slog.Logger
	metrics *policyMetrics

	current  atomic.Pointer[policies.Set]
	loadedAt atomic.Pointer[time.Time]

	mu    sync.Mutex // one reload at a time
	tried string     // fingerprint of the files at the last attempt; guarded by mu
}

// policy is the running one.
func (r *reloader) policy() *policies.Set { return r.current.Load() }

// start makes set, which was loaded from the files, the first policy. What the
// buffer holds of streams and drains that it does not name stays, orphaned.
func (r *reloader) start(set *policies.Set) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tried = fingerprint(r.paths)
	if err := r.engine.Configure(bufferStreams(set)); err != nil {
		return fmt.Errorf("configure buffer: %w", err)
	}
	if err := r.apply(set); err != nil {
		return fmt.Errorf("start drains: %w", err)
	}
	r.swap(set)
	for _, o := range orphans(r.engine.Stats()) {
		r.log.Warn("orphaned", "detail", o.detail)
		r.events(time.Now(), admin.Event{Kind: "orphaned", Object: o.name, Actor: actorProgram, Detail: o.detail})
	}
	return nil
}

// reload reads the files again for someone. On an error, which is an
// [admin.Refused] where the policy is at fault, the running policy stays.
func (r *reloader) reload(actor string) (hash string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tried = fingerprint(r.paths)
	before := r.policy().Hash
	set, err := r.replace()
	if err != nil {
		r.metrics.failed()
		r.report(err)
		r.events(time.Now(), admin.Event{Kind: "reload-refused", Object: "policy", Actor: actor, Detail: err.Error()})
		return "", err
	}
	r.events(time.Now(), admin.Event{Kind: "reload", Object: "policy", Actor: actor, Detail: before + " → " + set.Hash})
	return set.Hash, nil
}

// reloadChanged reloads if the files are not what they were at the last attempt.
func (r *reloader) reloadChanged() {
	r.mu.Lock()
	same := r.tried == fingerprint(r.paths)
	r.mu.Unlock()
	if !same {
		_, _ = r.reload(actorFile) // reported there; the running policy stays
	}
}

// replace does all that can fail before anything takes hold.
func (r *reloader) replace() (*policies.Set, error) {
	set, err := policies.Load(r.paths)
	if err != nil {
		return nil, refused(err)
	}
	old := r.policy()
	if held := stillHeld(r.engine.Stats(), old, set); len(held) > 0 {
		return nil, held
	}
	// For a moment the buffer knows the streams of both: routes of the old
	// policy may still append, drains of the new one have to be there.
	if err := r.engine.Configure(bufferStreams(old, set)); err != nil {
		return nil, errors.Join(refused(err), r.engine.Configure(bufferStreams(old)))
	}
	if err := r.apply(set); err != nil {
		return nil, errors.Join(refused(err), r.engine.Configure(bufferStreams(old)))
	}
	r.swap(set)
	if err := r.engine.Configure(bufferStreams(set)); err != nil {
		r.log.Error("streams of the old policy stay", "err", err) // the new one runs
	}
	return set, nil
}

func (r *reloader) swap(set *policies.Set) {
	now := time.Now()
	r.follow(set)
	r.current.Store(set)
	r.loadedAt.Store(&now)
	r.metrics.loaded(set.Hash, now)
	for _, w := range policies.Check(set, now) {
		r.log.Warn("policy", "file", w.File, "line", w.Line, "column", w.Column, "message", w.Message, "hint", w.Hint)
	}
}

func (r *reloader) report(err error) {
	const line = "policy refused, the running one stays"
	var mistakes admin.Refused
	if !errors.As(err, &mistakes) {
		mistakes = admin.Refused{{Message: err.Error()}}
	}
	for _, m := range mistakes {
		if m.File == "" {
			r.log.Error(line, "message", m.Message, "hint", m.Hint)
			continue
		}
		r.log.Error(line, "file", m.File, "line", m.Line, "column", m.Column, "message", m.Message, "hint", m.Hint)
	}
}

// refused makes any reason that a policy cannot run one that the API can tell.
func refused(err error) admin.Refused {
	var mistakes policies.Errors
	if !errors.As(err, &mistakes) {
		return admin.Refused{{Message: err.Error()}}
	}
	out := make(admin.Refused, 0, len(mistakes))
	for _, m := range mistakes {
		out = append(out, admin.Mistake{File: m.File, Line: m.Line, Column: m.Column, Message: m.Message, Hint: m.Hint})
	}
	return out
}

// stillHeld lists what set leaves out or changes though messages wait in it:
// nobody would ever deliver them, or they would lose their order.
func stillHeld(stats buffer.Stats, old, set *policies.Set) admin.Refused {
	var held admin.Refused
	for _, s := range stats.Streams {
		if s.Orphaned || s.Messages == 0 {
			continue
		}
		next, was := set.Stream(s.Stream), old.Stream(s.Stream)
		switch {
		case next == nil:
			held = append(held, admin.Mistake{
				Message: fmt.Sprintf("stream %s is left out with %s in it", s.Stream, messages(s.Messages)),
				Hint:    fmt.Sprintf("keep it until it is empty, or give them up: forebay streams drop %s --reason WHY", s.Stream),
			})
		case was != nil && !reflect.DeepEqual(was.OrderingKey, next.OrderingKey):
			held = append(held, admin.Mistake{
				Message: fmt.Sprintf("stream %s has another ordering_key with %s in it", s.Stream, messages(s.Messages)),
				Hint:    "change it when the stream is empty: what waits is ordered by the present one",
			})
		}
	}
	for _, d := range stats.Drains {
		n := d.Pending + d.InFlight + d.Scheduled
		if d.Orphaned || n == 0 {
			continue
		}
		kept := set.Drain(d.Drain)
		if kept != nil && kept.Stream == d.Stream {
			continue
		}
		held = append(held, admin.Mistake{
			Message: fmt.Sprintf("drain %s of stream %s is left out with %s to deliver", d.Drain, d.Stream, messages(n)),
			Hint:    fmt.Sprintf("keep it until it has none, or give them up: forebay drains drop %s --reason WHY", d.Drain),
		})
	}
	return held
}

// orphan is something that is stored and in no policy.
type orphan struct{ name, detail string }

func orphans(stats buffer.Stats) []orphan {
	var found []orphan
	for _, s := range stats.Streams {
		if s.Orphaned {
			found = append(found, orphan{s.Stream, fmt.Sprintf("stream %s holds %s and is not in the policy", s.Stream, messages(s.Messages))})
		}
	}
	for _, d := range stats.Drains {
		if d.Orphaned {
			found = append(found, orphan{d.Drain, fmt.Sprintf("drain %s has %s and is not in the policy", d.Drain, messages(d.Pending+d.Scheduled))})
		}
	}
	return found
}

func messages(n uint64) string {
	if n == 1 {
		return "1 message"
	}
	return fmt.Sprintf("%d messages", n)
}

// bufferStreams is what the buffer needs to know of the policies; the last one
// rules where several name a stream.
func bufferStreams(sets ...*policies.Set) []buffer.Stream {
	var streams []buffer.Stream
	index := map[string]int{}
	for _, set := range sets {
		for _, s := range set.Streams {
			i, ok := index[s.Name]
			if !ok {
				i = len(streams)
				index[s.Name] = i
				streams = append(streams, buffer.Stream{Name: s.Name})
			}
			streams[i].MaxBytes = s.MaxBytes
			streams[i].MaxMessageBytes = s.MaxMessageBytes
			streams[i].KeepDelivered, streams[i].KeepResultsBytes = s.KeepDelivered, s.KeepResultsBytes
			streams[i].DeadKeep, streams[i].DeadMaxBytes = s.DeadKeep, s.DeadMaxBytes
		}
	}
	for _, set := range slices.Backward(sets) {
		for _, d := range set.Drains {
			if inAny(streams, d.Name) {
				continue // it has moved to another stream, and is empty
			}
			i := index[d.Stream]
			streams[i].Drains = append(streams[i].Drains, d.Name)
			if d.FromOldest {
				streams[i].FromOldest = append(streams[i].FromOldest, d.Name)
			}
			if s := set.Sink(d.Sink); s != nil && s.Keyless() {
				streams[i].Keyless = append(streams[i].Keyless, d.Name)
			}
		}
	}
	return streams
}

func inAny(streams []buffer.Stream, drain string) bool {
	return slices.ContainsFunc(streams, func(s buffer.Stream) bool { return slices.Contains(s.Drains, drain) })
}

// fingerprint changes when the files behind paths do, calendars that they name
// included. What cannot be read is part of it: that it can be read again is a
// change too.
func fingerprint(paths []string) string {
	h := sha256.New()
	names, err := policies.Files(paths)
	fmt.Fprintln(h, len(names), err)
	for _, name := range names {
		fmt.Fprintln(h, name)
		if err := hashFile(h, name); err != nil {
			fmt.Fprintln(h, err)
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

func hashFile(w io.Writer, name string) error {
	info, err := os.Stat(name)
	if err != nil || !info.Mode().IsRegular() {
		return err // a pipe would never be read to its end
	}
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, io.LimitReader(f, maxPolicyBytes))
	return err
}
