package app

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"forebay/buffer/segment"
	"forebay/cmd/forebay/admin"
)

const (
	eventsFile       = "events.jsonl"
	formerEventsFile = "events.1.jsonl"
	// maxEventsBytes is how large a file of the operator log gets. There are two.
	maxEventsBytes = 4 << 20
	// maxDetail bounds what one event says, in bytes.
	maxDetail = 2000
	// maxQueuedEvents bounds those that wait to be stored.
	maxQueuedEvents = 256
)

// The actors that are no people.
const (
	actorProgram = "forebay" // what happens by itself
	actorFile    = "file"    // a policy file changed
)

// eventLog is the operator log: what was changed or went wrong, when, by whom
// and why. It is a file of JSON lines in the data directory; a full one becomes
// the former one, in the place of the one before. All methods are safe for
// concurrent use.
type eventLog struct {
	dir   string
	max   int64 // bytes of a file
	log   *slog.Logger
	queue chan admin.Event // of those whose teller must not wait; never closed
	stop  chan struct{}    // closed by close
	done  chan struct{}    // closed when nothing is taken from the queue any more

	mu   sync.Mutex
	file *os.File // guarded by mu
	size int64    // guarded by mu; of file
	last int64    // guarded by mu; the newest id
}

// openEvents opens the operator log of a data directory. The part of a line
// that a crash left is cut off.
func openEvents(dir string, log *slog.Logger) (*eventLog, error) {
	l := &eventLog{
		dir: dir, max: maxEventsBytes, log: log,
		queue: make(chan admin.Event, maxQueuedEvents), stop: make(chan struct{}), done: make(chan struct{}),
	}
	for _, name := range []string{formerEventsFile, eventsFile} {
		events, err := l.read(name)
		if err != nil {
			return nil, err
		}
		for _, e := range events {
			l.last = max(l.last, e.ID)
		}
	}
	if err := l.open(); err != nil {
		return nil, err
	}
	go l.keepQueued()
	return l, nil
}

// keepQueued stores what waits, until close and then to the end of the queue.
func (l *eventLog) keepQueued() {
	defer close(l.done)
	for {
		select {
		case e := <-l.queue:
			l.keep(e)
			continue
		default:
		}
		select {
		case e := <-l.queue:
			l.keep(e)
		case <-l.stop:
			return
		}
	}
}

func (l *eventLog) open() error {
	f, err := os.OpenFile(filepath.Join(l.dir, eventsFile), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("operator log: %w", err)
	}
	size, err := wholeLines(f)
	if err == nil {
		err = f.Truncate(size)
	}
	if err == nil {
		err = segment.SyncDir(l.dir)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("operator log: %w", err), f.Close())
	}
	l.file, l.size = f, size
	return nil
}

// wholeLines is the length of a file up to its last newline.
func wholeLines(f *os.File) (int64, error) {
	raw, err := io.ReadAll(io.LimitReader(f, 2*maxEventsBytes))
	return int64(bytes.LastIndexByte(raw, '\n') + 1), err
}

// add takes an event, says it in the program's log, and returns once it is on
// disk.
func (l *eventLog) add(now time.Time, e admin.Event) {
	e.At = admin.Time{Time: now}
	l.log.Info("event", attrs(e)...)
	l.keep(e)
}

// later takes an event that its teller has logged, and does not wait.
func (l *eventLog) later(now time.Time, e admin.Event) {
	e.At = admin.Time{Time: now}
	select {
	case l.queue <- e:
	default:
		l.log.Error("event is not in the operator log: too many wait", attrs(e)...)
	}
}

// keep gives an event its id and stores it. What cannot be stored is an error in
// the program's log, with all that it says: who mends a full disk must not be
// kept from it.
func (l *eventLog) keep(e admin.Event) {
	e.Detail = clip(e.Detail, maxDetail)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last++
	e.ID = l.last
	if err := l.store(e); err != nil {
		l.log.Error("event is not in the operator log", append(attrs(e), "err", err)...)
	}
}

func attrs(e admin.Event) []any {
	return []any{"kind", e.Kind, "object", e.Object, "actor", e.Actor, "reason", e.Reason, "detail", e.Detail}
}

// store requires that mu is held.
func (l *eventLog) store(e admin.Event) error {
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	line = append(line, '\n')
	if l.size > 0 && l.size+int64(len(line)) > l.max {
		if err := l.rotate(); err != nil {
			return err
		}
	}
	if _, err := l.file.Write(line); err != nil {
		return errors.Join(err, l.file.Truncate(l.size)) // half a line would spoil the next
	}
	l.size += int64(len(line))
	return l.file.Sync()
}

func (l *eventLog) rotate() error {
	if err := os.Rename(filepath.Join(l.dir, eventsFile), filepath.Join(l.dir, formerEventsFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err // it is gone where the step after this one failed before
	}
	full := l.file
	if err := l.open(); err != nil {
		return err
	}
	return full.Close()
}

// since returns events in order, at most limit: those with an id above after
// that happened at from or later.
func (l *eventLog) since(after int64, from time.Time, limit int) ([]admin.Event, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []admin.Event
	for _, name := range []string{formerEventsFile, eventsFile} {
		events, err := l.read(name)
		if err != nil {
			return nil, err
		}
		for _, e := range events {
			if e.ID <= after || e.At.Before(from) {
				continue
			}
			if len(list) == limit {
				return list, nil
			}
			list = append(list, e)
		}
	}
	return list, nil
}

// read returns the events of a file. A line that cannot be read is passed over:
// the others are as good as before.
func (l *eventLog) read(name string) ([]admin.Event, error) {
	f, err := os.Open(filepath.Join(l.dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("operator log: %w", err)
	}
	defer f.Close()
	var list []admin.Event
	lines := bufio.NewScanner(io.LimitReader(f, 2*maxEventsBytes))
	lines.Buffer(nil, maxEventsBytes)
	for lines.Scan() {
		var e admin.Event
		if json.Unmarshal(lines.Bytes(), &e) == nil && e.ID > 0 {
			list = append(list, e)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("operator log: %w", err)
	}
	return list, nil
}

func (l *eventLog) close() error {
	close(l.stop)
	<-l.done
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.file.Close()
}

// clip cuts a text to so many bytes, between characters.
func clip(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return string(bytes.ToValidUTF8([]byte(s[:limit]), nil)) + "…"
}
