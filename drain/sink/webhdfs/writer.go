package webhdfs

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"forebay/drain"
)

// writer is the file that a drain's messages gather in, and those before it that have
// not got their names yet.
type writer struct {
	sink  *Sink
	drain string
	left  *sweeper

	writing  atomic.Bool // there is a file
	adding   sync.Mutex  // held while one is added to, ended or given up
	file     *file       // guarded by adding; nil: the next message begins one
	failures int         // guarded by adding; in a row

	mu   sync.Mutex
	open []*file // guarded by mu; all that have no name yet
}

// addition is a batch as it is to lie in a file.
type addition struct {
	held     drain.Range
	messages int
	day      string
	data     []byte
}

// add adds a batch to the file. Where it cannot be known how much of it arrived, that
// ends the file.
func (w *writer) add(ctx context.Context, a addition, settled func(drain.Outcome)) {
	w.adding.Lock()
	defer w.adding.Unlock()
	if w.file != nil && !w.file.goesOn(a) {
		w.end()
	}
	if err := w.write(ctx, a); err != nil {
		w.fail(err, settled)
		return
	}
	w.failures = 0
	if w.file.add(a, settled); w.file.full(w.sink.policy.Roll.MaxBytes) {
		w.end()
	}
}

// write adds to the file, or begins one.
func (w *writer) write(ctx context.Context, a addition) error {
	before := func() error { return drain.Begin(ctx) }
	if w.file != nil {
		return w.sink.client.append(ctx, w.file.path, a.data, before)
	}
	if err := w.backlog(); err != nil {
		return err
	}
	now := time.Now()
	f := &file{folder: w.sink.folder(a.day), day: a.day, began: now, ctx: ctx}
	f.path = temporary(f.folder, w.drain, a.held.First, now)
	if err := w.sink.client.create(ctx, f.path, a.data, before); err != nil {
		if arrived(err) {
			w.left.add(ctx, f.path)
		}
		return err
	}
	f.age = time.AfterFunc(w.sink.policy.Roll.MaxAge, func() { w.finishFile(f) })
	w.file = f
	w.writing.Store(true)
	w.mu.Lock()
	w.open = append(w.open, f)
	w.mu.Unlock()
	return nil
}

// fail settles a batch that was not added, and with it the file if some of it may have
// arrived.
func (w *writer) fail(err error, settled func(drain.Outcome)) {
	f, ok := errors.AsType[*failure](err)
	if !ok { // Begin's
		settled(drain.Outcome{Unsent: true, Error: "not sent"})
		return
	}
	out := drain.Outcome{Error: err.Error(), RetryAfter: w.rest(err)}
	if f.name == "timeout" {
		out.Class = drain.Timeout
	}
	if w.file != nil && (arrived(err) || hopeless(err, w.failures)) {
		w.abandon(out)
	}
	settled(out)
}

// rest is how long nothing is sent after a failure.
func (w *writer) rest(err error) time.Duration {
	if denied(err) {
		return deniedWait
	}
	w.failures++
	return min(firstWait<<min(w.failures-1, 10), lastWait)
}

// arrived reports whether a DataNode may have had something of what failed.
func arrived(err error) bool {
	f, ok := errors.AsType[*failure](err)
	return ok && f.written
}

// abandon gives the file up: its messages go back, and are written again.
func (w *writer) abandon(out drain.Outcome) {
	f := w.file
	w.close(f)
	w.gone(f)
	out.RetryAfter = 0 // the batch that failed asks for it
	f.settle(out)
	w.left.add(f.ctx, f.path)
}

// close takes the file away from those that come.
func (w *writer) close(f *file) {
	f.age.Stop()
	w.file = nil
	w.writing.Store(false)
}

// end gives the file its name, soon.
func (w *writer) end() {
	f := w.file
	w.close(f)
	go w.name(f)
}

func (w *writer) finish() {
	w.adding.Lock()
	defer w.adding.Unlock()
	if w.file != nil {
		w.end()
	}
}

func (w *writer) finishFile(f *file) {
	w.adding.Lock()
	defer w.adding.Unlock()
	if w.file == f {
		w.end()
	}
}

// backlog says that too many files wait for their names, and why; nil: they do not.
func (w *writer) backlog() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.open) < maxNameless {
		return nil
	}
	f := w.open[0]
	f.mu.Lock()
	defer f.mu.Unlock()
	return &failure{name: "files wait for their names", detail: f.trouble}
}

// name gives a file its name, and settles its messages. It tries for as long as the
// attempt that began the file may last.
func (w *writer) name(f *file) {
	f.mu.Lock()
	f.renaming = true
	to := w.sink.finished(f.folder, w.drain, f.held)
	f.mu.Unlock()
	out := drain.Outcome{Class: drain.Success}
	err := retryUntil(f.ctx, func() error {
		err := w.rename(f, to)
		if errors.Is(err, errGone) {
			out = drain.Outcome{Error: err.Error(), RetryAfter: firstWait}
			return nil
		}
		f.hampered(err)
		return err
	})
	if err != nil {
		out = drain.Outcome{Error: err.Error()}
	}
	w.gone(f)
	f.settle(out)
}

// errGone means that a file is not where it was written, nor where it belongs.
var errGone = errors.New("somebody removed the file before it had its name")

// rename gives a file its name once. Where that is refused it looks whether the file has
// it already, because an answer was lost, or the same range was delivered before.
func (w *writer) rename(f *file, to string) error {
	c := w.sink.client
	ok, err := c.rename(f.ctx, f.path, to)
	if ok {
		return nil
	}
	there, unknown := c.exists(f.ctx, to)
	if there {
		w.left.add(f.ctx, f.path) // if it is still there it is the same once more
		return nil
	}
	if err = errors.Join(err, unknown); err != nil {
		return err
	}
	if here, err := c.exists(f.ctx, f.path); err != nil || here {
		return errors.Join(err, errors.New("RENAME is refused"))
	}
	return errGone
}

func (w *writer) gone(f *file) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open = slices.DeleteFunc(w.open, func(x *file) bool { return x == f })
}

func (w *writer) gathering() (list []drain.Gathering) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, f := range w.open {
		list = append(list, f.gathering(w.drain))
	}
	return list
}

// file is one that is written.
type file struct {
	path, folder, day string
	began             time.Time
	ctx               context.Context // of the attempt that began it
	age               *time.Timer
	settled           []func(drain.Outcome) // guarded by the writer's adding, until it is closed

	mu       sync.Mutex
	held     drain.Range // guarded by mu
	messages int         // guarded by mu
	bytes    int64       // guarded by mu; as they lie there
	renaming bool        // guarded by mu
	trouble  string      // guarded by mu; why it has not got its name
}

// goesOn reports whether a message is the next one of the file. One that is not, because
// others come later or were given back, begins another, so that a range has no gap.
func (f *file) goesOn(a addition) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.day == a.day && a.held.First == f.held.Last+1
}

// settle tells of all that the file holds how it went; the sink rests once for it.
func (f *file) settle(out drain.Outcome) {
	for _, settled := range f.settled {
		settled(out)
		out.RetryAfter = 0
	}
}

func (f *file) hampered(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.trouble = ""; err != nil {
		f.trouble = err.Error()
	}
}

func (f *file) add(a addition, settled func(drain.Outcome)) {
	f.settled = append(f.settled, settled)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.messages == 0 {
		f.held.First = a.held.First
	}
	f.held.Last = a.held.Last
	f.messages += a.messages
	f.bytes += int64(len(a.data))
}

func (f *file) full(bytes int64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.bytes >= bytes || f.messages >= maxFile
}

func (f *file) gathering(of string) drain.Gathering {
	f.mu.Lock()
	defer f.mu.Unlock()
	return drain.Gathering{Drain: of, Place: f.path, Messages: f.messages, Bytes: f.bytes, Since: f.began, Ending: f.renaming}
}
