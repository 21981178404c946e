package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// overConsumer is what a source has to reach of a bare consumer.
	overConsumer = 0.8
	// sourceRecords are in the topic; a rate is that of all but the first tenth.
	sourceRecords = 1_500_000
)

const sourcePolicy = `version: 1
sinks: [{ name: nowhere, http: { urls: ["http://127.0.0.1:9"] } }]
streams: [{ name: orders, ordering_key: ["kafka:key"] }]
drains: [{ name: held, stream: orders, sink: nowhere, schedule: { base: 0 } }]
sources: [{ name: topic, kafka: { brokers: [%[1]q], topics: [%[2]q], group: %[3]q }, stream: orders, path: /v1/orders, from: oldest }]
`

// kafkaSource measures a topic on its way into a stream, and beside it a bare consumer
// of franz-go that writes the same bytes to a file and syncs that for each poll.
func kafkaSource(ctx context.Context, o options, b *broker) (err error) {
	lines, err := readOrders(o.orders)
	if err != nil {
		return err
	}
	all, err := inBatches(lines)
	if err != nil {
		return err
	}
	const topic = "orders-to-read"
	remove, err := b.topic(ctx, topic, int32(o.partitions), nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	if err := b.fill(ctx, topic, all(0)); err != nil {
		return err
	}
	fmt.Printf("source: %d rounds, %d records of %d bytes with a key each, %d partitions\n\n", o.rounds, sourceRecords, lineBytes, o.partitions)
	var ours, bare []float64
	for i := range o.rounds {
		var rounds []sourced
		dir := filepath.Join(o.dir, fmt.Sprintf("source-%d", os.Getpid()))
		for _, of := range []struct {
			rates   *[]float64
			measure func(context.Context, options, *broker, string, string) (sourced, error)
		}{{&ours, sourceRate}, {&bare, consumerRate}} {
			if err := os.MkdirAll(dir, 0o700); err != nil {
				return err
			}
			round, err := of.measure(ctx, o, b, topic, dir)
			if err := errors.Join(err, os.RemoveAll(dir)); err != nil {
				return err
			}
			*of.rates, rounds = append(*of.rates, round.rate), append(rounds, round)
		}
		us, other := rounds[0], rounds[1]
		fmt.Printf("round %d   forebay %.0f/s   bare consumer %.0f/s   processor %.2f and %.2f µs a record   stored %.0f and %.0f bytes\n", i+1, us.rate, other.rate, us.cost, other.cost, us.bytes, other.bytes)
	}
	fmt.Printf("\nmedians: forebay %.0f/s, bare consumer %.0f/s\n", median(ours), median(bare))
	return reached(o, "forebay / bare consumer", ours, bare, overConsumer)
}

// fill writes the records, with the client's own settings.
func (b *broker) fill(ctx context.Context, topic string, batch func() []byte) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(b.public), kgo.DefaultProduceTopic(topic), kgo.MaxBufferedRecords(50_000))
	if err != nil {
		return err
	}
	defer client.Close()
	failed := make(chan error, 1)
	for n := 0; n < sourceRecords; {
		for line := range bytes.Lines(batch()) {
			client.Produce(ctx, &kgo.Record{Key: strconv.AppendInt(nil, int64(n%10_000), 10), Value: bytes.Clone(bytes.TrimSpace(line))}, func(_ *kgo.Record, err error) {
				if err != nil {
					select {
					case failed <- err:
					default: // one says enough
					}
				}
			})
			if n++; n == sourceRecords {
				break
			}
		}
	}
	if err := client.Flush(ctx); err != nil {
		return err
	}
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

// clock takes the time of all records but the first tenth.
type clock struct{ began, ended time.Time }

func (c *clock) at(records int) {
	if c.began.IsZero() && records >= sourceRecords/10 {
		c.began = time.Now()
	}
	if c.ended.IsZero() && records >= sourceRecords {
		c.ended = time.Now()
	}
}

// sourced is how a round went: records a second, the processor time of each record in
// microseconds, from the start of the process or the client on, and the bytes that it takes.
type sourced struct{ rate, cost, bytes float64 }

func (c *clock) round(from int, used time.Duration) sourced {
	return sourced{rate: float64(sourceRecords-from) / c.ended.Sub(c.began).Seconds(), cost: float64(used.Microseconds()) / sourceRecords}
}

// consumerRate reads the topic and writes what it reads.
func consumerRate(ctx context.Context, _ options, b *broker, topic, dir string) (sourced, error) {
	user, system := ownTimes()
	client, err := kgo.NewClient(kgo.SeedBrokers(b.public), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return sourced{}, err
	}
	defer client.Close()
	file, err := os.Create(filepath.Join(dir, "records"))
	if err != nil {
		return sourced{}, err
	}
	defer file.Close()
	out := bufio.NewWriterSize(file, 1<<20)
	var c clock
	from, size := 0, 0
	for n := 0; n < sourceRecords; {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return sourced{}, err
		}
		fetches.EachRecord(func(r *kgo.Record) {
			_, _ = out.Write(r.Key) // Flush says what failed
			_, _ = out.Write(r.Value)
			n++
			size += len(r.Key) + len(r.Value)
		})
		if err := errors.Join(out.Flush(), file.Sync()); err != nil {
			return sourced{}, err
		}
		if c.at(n); from == 0 && !c.began.IsZero() {
			from = n
		}
	}
	userAfter, systemAfter := ownTimes()
	round := c.round(from, userAfter-user+systemAfter-system)
	round.bytes = float64(size) / sourceRecords
	return round, nil
}

// sourceRate lets the program read it.
func sourceRate(ctx context.Context, o options, b *broker, topic, dir string) (round sourced, err error) {
	p, err := startForebay(o.forebay, dir, fmt.Sprintf(sourcePolicy, b.public, topic, fmt.Sprint("bench-", time.Now().UnixNano())))
	if err != nil {
		return sourced{}, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	var c clock
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	from := 0
	for c.ended.IsZero() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return sourced{}, ctx.Err()
		}
		n, err := storedOf(ctx, p)
		if err != nil {
			return sourced{}, err
		}
		if c.at(n); from == 0 && !c.began.IsZero() {
			from = n
		}
		if n > sourceRecords*9/10 {
			tick.Reset(5 * time.Millisecond) // or the end would be seen 25 ms late, of 800
		}
	}
	user, system := p.times()
	round = c.round(from, user+system)
	stored, err := p.storedBytes()
	round.bytes = float64(stored) / sourceRecords
	return round, err
}

// storedOf is how many messages the program's one stream has taken.
func storedOf(ctx context.Context, p *process) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.admin+"/api/v1/streams", http.NoBody)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var streams []struct {
		Accepted int `json:"accepted_total"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&streams); err != nil || len(streams) != 1 {
		return 0, fmt.Errorf("streams: %d of them, %w", len(streams), err)
	}
	return streams[0].Accepted, nil
}
