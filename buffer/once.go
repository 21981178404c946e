package buffer

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"
)

// Records of idempotency keys live as outcomes do: in the commit of their
// messages, in memory while their segment is open, then in a file a segment that
// outlives it, until the last key's TTL is over.

// onceRecord is one key and where its messages are.
type onceRecord struct {
	Key       [16]byte
	Body      [8]byte
	stream    uint32
	count     uint32
	first     uint64
	at, until int64 // Unix ms
}

// onceEntry is a record of an append that is under way, or was.
type onceEntry struct {
	onceRecord
	group *group // nil: it is durable
	part  *part
	index int
}

const (
	onceDirName = "once"
	onceSize    = 16 + 8 + 4 + 8 + 4 + 8 + 8 // a record among the changes, about
	// inProgressWait is how long a second request waits for the first.
	inProgressWait = time.Second
)

// AppendOnce implements [Once].
func (e *Engine) AppendOnce(ctx context.Context, name string, now time.Time, msgs []Message, key OnceKey) (Accepted, bool, error) {
	return e.once(ctx, name, now, key, func(c onceClaim) (Accepted, *onceEntry, error) {
		return e.appendNew(ctx, name, now, msgs, c, nil)
	})
}

// Repeated implements [Once].
func (e *Engine) Repeated(ctx context.Context, name string, now time.Time, key OnceKey) (Accepted, bool, error) {
	return e.once(ctx, name, now, key, func(onceClaim) (Accepted, *onceEntry, error) { return Accepted{}, nil, nil })
}

// once returns what was said of a key, or what is done with one that is new: which
// may find that somebody else was first.
func (e *Engine) once(ctx context.Context, name string, now time.Time, key OnceKey, do func(onceClaim) (Accepted, *onceEntry, error)) (Accepted, bool, error) {
	key.Key = onceScope(name, key.Key)
	patience := time.Time{} // when it ends; zero: nobody else has the key, so far
	for {
		// Memory first: it has the newest, should the clock have been set back.
		first, files := e.knownNow(key, now)
		if first == nil {
			stored, found, err := e.findOnceFile(files, key.Key, now)
			if errors.Is(err, errFilesMoved) {
				continue
			}
			if err != nil {
				return Accepted{}, false, fmt.Errorf("append to %s: %w", name, err)
			}
			if found {
				return stored.replay(name, key)
			}
			var a Accepted
			a, first, err = do(onceClaim{key, files.moves})
			if errors.Is(err, errFilesMoved) {
				continue
			}
			if first == nil {
				return a, false, err
			}
		}
		if first.group == nil || first.Body != key.Body {
			return first.replay(name, key)
		}
		if patience.IsZero() {
			patience = time.Now().Add(inProgressWait)
		}
		if err := first.group.settled(ctx, time.Until(patience)); err != nil {
			return Accepted{}, false, fmt.Errorf("append to %s: %w", name, err)
		}
	}
}

// settled waits until a group is stored, or its keys are free again.
func (g *group) settled(ctx context.Context, most time.Duration) error {
	select {
	case <-g.done:
		return nil
	case <-time.After(most):
		return ErrInProgress
	case <-ctx.Done():
		return ctx.Err()
	}
}

// onceScope makes a key one stream's.
func onceScope(stream string, key [16]byte) [16]byte {
	scope := sha256.Sum256(append([]byte(stream), key[:]...))
	return [16]byte(scope[:16])
}

// Lookup implements [Once].
func (e *Engine) Lookup(ctx context.Context, name string, key [16]byte, now time.Time) (Accepted, error) {
	e.mu.Lock()
	stored := e.streams[name] != nil
	e.mu.Unlock()
	if !stored {
		return Accepted{}, fmt.Errorf("look up in %s: %w", name, ErrNoStream)
	}
	sought := OnceKey{Key: onceScope(name, key)}
	known, files := e.knownNow(sought, now)
	if known != nil && known.group == nil {
		return known.accepted(), nil
	}
	r, found, err := e.findOnceFile(files, sought.Key, now)
	if errors.Is(err, errFilesMoved) {
		return e.Lookup(ctx, name, key, now)
	}
	if err != nil {
		return Accepted{}, fmt.Errorf("look up in %s: %w", name, err)
	}
	if !found {
		return Accepted{}, fmt.Errorf("look up in %s: %w", name, ErrNoMessage)
	}
	return r.accepted(), nil
}

func (r *onceRecord) accepted() Accepted {
	return Accepted{First: r.first, Count: int(r.count), At: time.UnixMilli(r.at)}
}

// replay is the answer to a request that was stored before.
func (r *onceRecord) replay(name string, key OnceKey) (Accepted, bool, error) {
	if r.Body != key.Body {
		return Accepted{}, false, fmt.Errorf("append to %s: %w", name, ErrMismatch)
	}
	return r.accepted(), true, nil
}

// onceFiles are the files of records at one moment.
type onceFiles struct {
	shelves []onceShelf // oldest first
	moves   int         // how often records had gone into another file
}

// knownNow returns who has the key in memory, and the files to look into where
// nobody has.
func (e *Engine) knownNow(key OnceKey, now time.Time) (*onceEntry, onceFiles) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.knownOnce(key, now), onceFiles{e.onceShelves, e.onceMoves}
}

// onceClaim is a key that was not in the files.
type onceClaim struct {
	OnceKey
	moves int // of the files that were read
}

// errFilesMoved asks to look again: records went from memory into a file
// between the look at the files and the look into memory.
var errFilesMoved = errors.New("idempotency records moved")

// knownOnce returns the entry that has the key, or nil. The caller holds mu.
func (e *Engine) knownOnce(key OnceKey, now time.Time) *onceEntry {
	if x := e.onces[key.Key]; x != nil {
		seen := *x // what publish changes is read here, under mu
		return &seen
	}
	for open := range e.openRecords() {
		if r, ok := open.onces.find(key.Key); ok {
			if r.until <= now.UnixMilli() || e.byNum[r.stream] == nil {
				return nil // or its stream was given up, with the message
			}
			return &onceEntry{onceRecord: r}
		}
	}
	return nil
}

// claimOnce takes the key for the group that is gathering. The caller holds mu.
func (e *Engine) claimOnce(key OnceKey) *onceEntry {
	x := &onceEntry{onceRecord: onceRecord{Key: key.Key, Body: key.Body}, group: e.pending}
	e.onces[key.Key] = x
	e.pending.onces = append(e.pending.onces, x)
	return x
}

// onceOps are the records of a group, once its offsets are known.
func (b *batch) onceOps() (o ops) {
	for _, x := range b.group.onces {
		x.stream, x.first = x.part.stream.num, x.part.first+uint64(x.index)
		o.op(opOnce, uint64(x.stream), x.first, uint64(x.count), uint64(x.at), uint64(x.until))
		o.text(string(x.Key[:]))
		o.text(string(x.Body[:]))
	}
	return o
}

// settleOnces makes the keys of a group known, or free again if its messages
// were refused. The caller holds mu.
func (e *Engine) settleOnces(g *group, stored bool) {
	for _, x := range g.onces {
		delete(e.onces, x.Key)
		if stored {
			e.records.onces.add(x.onceRecord)
		}
	}
}

func (op *operation) once() onceRecord {
	r := onceRecord{stream: op.num, first: op.offset, count: uint32(op.attempts), at: int64(op.accepted), until: int64(op.at)}
	copy(r.Key[:], op.key)
	copy(r.Body[:], op.name)
	return r
}
