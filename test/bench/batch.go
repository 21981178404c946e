package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync/atomic"
)

const (
	perBatch = 1000
	// lineBytes is the length that lines are filled up to, as orders are.
	lineBytes = 300
	idDigits  = 12
)

// batch measures requests of a thousand orders, each checked to be JSON and on
// disk before the 202. The bare handler that answers single orders is measured
// beside it, because it says how fast the machine is.
func batch(ctx context.Context, o options) error {
	lines, err := readOrders(o.orders)
	if err != nil {
		return err
	}
	all, err := inBatches(lines)
	if err != nil {
		return err
	}
	fmt.Printf("%d connections, %d rounds of %v each, batches of %d orders of %d bytes, every id a new one\n\n",
		o.connections, o.rounds, o.measure, perBatch, len(all(0)())/perBatch)
	bare := func(string) (*process, error) { return startBare() }
	ndjson := func(addr string) target { return httpTarget(addr, "application/x-ndjson") }
	sides := []side{
		{"bare", bare, ndjson, all},
		{"forebay", func(dir string) (*process, error) {
			return startForebay(o.forebay, dir, buffering("split: ndjson, max_body: 16MiB"))
		}, ndjson, all},
	}
	rounds, err := measured(ctx, o, sides)
	if err != nil {
		return err
	}
	report(os.Stdout, sides, rounds, perBatch)
	ratios(os.Stdout, "forebay / bare", rounds[1], rounds[0])
	written(os.Stdout, rounds[1])
	return nil
}

// inBatches fills the order lines up to 300 bytes and joins a thousand of them;
// each batch has ids that none had before.
func inBatches(lines [][]byte) (bodies, error) {
	random := rand.New(rand.NewPCG(1, 2)) // the same in every run
	var text []byte
	var at []int // of the ids
	for i := range perBatch {
		var order map[string]any
		if err := json.Unmarshal(lines[i%len(lines)], &order); err != nil {
			return nil, fmt.Errorf("order %d: %w", i+1, err)
		}
		delete(order, "order_id")
		rest, err := json.Marshal(order)
		if err != nil {
			return nil, err
		}
		at = append(at, len(text)+len(`{"order_id":"`))
		line := append([]byte(`{"order_id":"`+string(bytes.Repeat([]byte{'0'}, idDigits))+`",`), rest[1:]...)
		if more := lineBytes - 1 - len(line) - len(`,"note":""`); more > 0 {
			note := bytes.Repeat([]byte("gift wrap, please "), more/18+1)[:more]
			for k := range min(more, 28) { // so that a batch shrinks to about 0.15
				note[k] = "etaoin shrdlu cmfwyp"[random.IntN(20)]
			}
			line = append(append(append(line[:len(line)-1], `,"note":"`...), note...), `"}`...)
		}
		text = append(append(text, line...), '\n')
	}
	var last atomic.Int64
	return func(int) func() []byte {
		body := bytes.Clone(text)
		return func() []byte {
			id := last.Add(perBatch)
			var digits [idDigits]byte
			for i, place := range at {
				d := strconv.AppendInt(digits[:0], id+int64(i), 10)
				copy(body[place+idDigits-len(d):], d)
			}
			return body
		}
	}, nil
}
