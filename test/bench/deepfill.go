package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"forebay/buffer"
)

const (
	fillArg  = "deep-fill"
	emptyArg = "deep-empty"

	deepStream   = "orders"
	finished     = "finished" // the drain that keeps up
	stalled      = "stalled"  // the one that never delivers
	memoryLimit  = 448 << 20  // what `forebay serve` sets
	ordersPerKey = 20
	takeAtOnce   = 1000 // messages
)

// deepOptions are what the two processes of a deep run are told.
type deepOptions struct {
	dir, orders string
	messages    int
	callers     int
	profiles    string
}

func deepFlags(name string, args []string) (deepOptions, error) {
	var o deepOptions
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.StringVar(&o.dir, "dir", "", "data directory")
	flags.StringVar(&o.orders, "orders", "", "orders for bodies, one a line")
	flags.IntVar(&o.messages, "messages", 0, "messages")
	flags.IntVar(&o.callers, "callers", 0, "appends under way at a time")
	flags.StringVar(&o.profiles, "profiles", "", "where CPU profiles go")
	return o, flags.Parse(args)
}

func openDeep(o deepOptions) (*buffer.Engine, error) {
	debug.SetMemoryLimit(memoryLimit)
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	e, err := buffer.Open(context.Background(), buffer.Config{Dir: o.dir, Log: log})
	if err != nil {
		return nil, err
	}
	return e, e.Configure([]buffer.Stream{{Name: deepStream, Drains: []string{finished, stalled}}})
}

// deepMark is what a filling process says of itself.
type deepMark struct {
	Messages int                `json:"messages"`
	Seconds  float64            `json:"seconds"`
	Peak     int64              `json:"peak"` // anonymous, since the mark before, in bytes
	Memory   memory             `json:"memory"`
	Cost     cost               `json:"cost"`           // so far
	Heap     map[string]float64 `json:"heap,omitempty"` // bytes by structure, after a collection
	IDs      []string           `json:"ids,omitempty"`
}

// fill says that it is open, and appends messages, each with an ordering key and an idempotency key, each by
// itself, as many callers at a time; one drain finishes them meanwhile. It says
// where it is at each tenth, and waits to be killed.
func fill(args []string) error {
	o, err := deepFlags(fillArg, args)
	if err != nil {
		return err
	}
	lines, err := readOrders(o.orders)
	if err != nil {
		return err
	}
	runtime.MemProfileRate = 64 << 10
	e, err := openDeep(o)
	if err != nil {
		return err
	}
	f := &filler{deepOptions: o, engine: e, lines: lines, out: json.NewEncoder(os.Stdout)}
	if err := f.out.Encode(deepMark{}); err != nil { // the directory is there, and empty
		return err
	}
	go f.watch()
	finish := make(chan error, 1)
	go func() { finish <- f.finish() }()
	if err := f.run(); err != nil {
		return err
	}
	if err := <-finish; err != nil {
		return err
	}
	if err := f.mark(o.messages, true); err != nil {
		return err
	}
	select {} // until it is killed
}

type filler struct {
	deepOptions
	engine *buffer.Engine
	lines  [][]byte
	out    *json.Encoder
	peak   atomic.Int64
	begin  time.Time
}

// watch keeps the most anonymous memory that was seen.
func (f *filler) watch() {
	for range time.Tick(50 * time.Millisecond) {
		if m, err := memoryOf("self"); err == nil {
			f.peak.Store(max(f.peak.Load(), m.Anonymous))
		}
	}
}

func (f *filler) run() error {
	f.begin = time.Now()
	tenth := f.messages / 10
	p := profiles{dir: f.profiles}
	for i := range 10 {
		if err := p.next(i); err != nil {
			return err
		}
		if err := f.appendRange(i*tenth, (i+1)*tenth); err != nil {
			return err
		}
		if i == 9 {
			return p.next(10) // the last mark waits for the drain
		}
		if err := f.mark((i+1)*tenth, i == 0); err != nil {
			return err
		}
	}
	return nil
}

func (f *filler) appendRange(from, to int) error {
	var next atomic.Int64
	next.Store(int64(from))
	errs := make(chan error, f.callers)
	var all sync.WaitGroup
	for range f.callers {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < to; i = int(next.Add(1)) - 1 {
				if err := f.append(i); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	all.Wait()
	close(errs)
	return <-errs
}

func (f *filler) append(i int) error {
	line := f.lines[i%len(f.lines)]
	id := strconv.Itoa(i)
	m := buffer.Message{
		Method: "POST", Target: "/v1/orders",
		Header: []buffer.Field{{Name: "Content-Type", Value: "application/json"}, {Name: "Idempotency-Key", Value: "order-" + id}},
		Body:   append([]byte(`{"order_id":"`+id+`",`), line[bytes.IndexByte(line, ',')+1:]...),
		Key:    deepKey(i, f.messages),
	}
	sum := sha256.Sum256([]byte(id))
	key := buffer.OnceKey{Key: [16]byte(sum[:16]), Body: [8]byte(sum[16:]), TTL: 24 * time.Hour}
	for {
		_, replayed, err := f.engine.AppendOnce(context.Background(), deepStream, time.Now(), []buffer.Message{m}, key)
		if errors.Is(err, buffer.ErrOverloaded) {
			time.Sleep(time.Millisecond)
			continue
		}
		if err == nil && replayed {
			err = fmt.Errorf("order %d was taken for one sent before", i)
		}
		return err
	}
}

// deepKey is the customer of the ith of n orders: each has some, spread over all.
func deepKey(i, n int) string { return "customer-" + strconv.Itoa(i%max(1, n/ordersPerKey)) }

// finish is the drain that keeps up.
func (f *filler) finish() error {
	for left := f.messages; left > 0; {
		ds, _, err := f.engine.Take(finished, time.Now(), takeAtOnce)
		if err != nil {
			return err
		}
		if len(ds) == 0 {
			<-f.engine.Wake(finished)
			continue
		}
		now := time.Now()
		for _, d := range ds {
			f.engine.Ack(finished, d.Offset, buffer.Result{At: now, FirstAt: now, Attempts: 1, Status: 200})
		}
		left -= len(ds)
	}
	return nil
}

// mark says where the process is. Of the whole it collects garbage first, to say
// what takes the memory that is left.
func (f *filler) mark(messages int, whole bool) error {
	m := deepMark{Messages: messages, Seconds: time.Since(f.begin).Seconds(), Peak: f.peak.Swap(0), Cost: costSoFar()}
	if whole {
		paused := time.Now()
		runtime.GC()
		debug.FreeOSMemory()
		m.Heap = heapByStructure()
		f.begin = f.begin.Add(time.Since(paused))
	}
	var err error
	if m.Memory, err = memoryOf("self"); err != nil {
		return err
	}
	if messages == f.messages {
		for i := range 1000 {
			m.IDs = append(m.IDs, f.engine.ID(buffer.Ref{Stream: deepStream, Offset: uint64(i * (messages / 1000))}))
		}
	}
	return f.out.Encode(m)
}

// empty finishes what the stalled drain has, and then says every second what the
// directory takes, for a minute or until its input ends.
func empty(args []string) error {
	o, err := deepFlags(emptyArg, args)
	if err != nil {
		return err
	}
	e, err := openDeep(o)
	if err != nil {
		return err
	}
	begin := time.Now()
	if err := (&filler{deepOptions: o, engine: e}).finishStalled(); err != nil {
		return err
	}
	fmt.Printf("%.1f\n", time.Since(begin).Seconds())
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	<-term
	return e.Close()
}

func (f *filler) finishStalled() error {
	for left := f.messages; left > 0; {
		ds, _, err := f.engine.Take(stalled, time.Now(), takeAtOnce)
		if err != nil {
			return err
		}
		now := time.Now()
		for _, d := range ds {
			f.engine.Ack(stalled, d.Offset, buffer.Result{At: now, FirstAt: now, Attempts: 1, Status: 200})
		}
		left -= len(ds)
	}
	return nil
}

// readMarks reads what a filling process says, line by line.
func readMarks(r io.Reader, each func(deepMark)) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var m deepMark
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			return fmt.Errorf("%q: %w", lines.Text(), err)
		}
		each(m)
		if len(m.IDs) > 0 {
			return nil
		}
	}
	return errors.Join(lines.Err(), errors.New("the filling process ended early"))
}
