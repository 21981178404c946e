package main

import (
	"bytes"
	"context"
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// ofProducer is what a drain to Kafka has to reach of a bare producer with the same
// settings.
const ofProducer = 0.8

// drainMessages is how many are drained in a round.
const drainMessages = 1_000_000

// A drain that is held until its stream is full, and then as fast as it gets.
const kafkaDrainPolicy = `version: 1
sinks:
  - name: events
    kafka: { brokers: ["BROKER"], topic: TOPIC, acks: all, compression: zstd }
streams:
  - name: orders
drains:
  - { name: to-events, stream: orders, sink: events, schedule: { base: RATE } }
routes:
  - { name: create-order, match: { methods: [POST], path: /v1/orders }, mode: buffer, stream: orders, split: ndjson, max_body: 16MiB }
`

// kafkaDrain measures a drain without a bound to Kafka, and beside it a franz-go
// producer with the same settings, which is given the same records: body, and those
// headers that a delivery has to have.
func kafkaDrain(ctx context.Context, o options, b *broker) error {
	lines, err := readOrders(o.orders)
	if err != nil {
		return err
	}
	all, err := inBatches(lines)
	if err != nil {
		return err
	}
	if err := b.warm(ctx, o, all); err != nil {
		return err
	}
	fmt.Printf("%d rounds of %d records, orders of %d bytes, acks=all, zstd, %d partitions\n\n", o.rounds, drainMessages, lineBytes, o.partitions)
	var ours, bare []float64
	for i := range o.rounds {
		for _, of := range []struct {
			rates *[]float64
			run   func(context.Context, options, *broker, string, func() []byte) (float64, error)
		}{{&ours, drainOnce}, {&bare, produceOnce}} {
			name := fmt.Sprintf("drained-%d", time.Now().UnixNano())
			remove, err := b.topic(ctx, name, int32(o.partitions), nil)
			if err != nil {
				return err
			}
			rate, err := of.run(ctx, o, b, name, all(i))
			if err = errors.Join(err, remove()); err != nil {
				return err
			}
			*of.rates = append(*of.rates, rate)
		}
		fmt.Printf("round %d   forebay %.0f/s   franz-go %.0f/s\n", i+1, ours[i], bare[i])
	}
	fmt.Printf("\nmedians: forebay %.0f/s, franz-go %.0f/s\n", median(ours), median(bare))
	return reached(o, "forebay's drain / franz-go", ours, bare, ofProducer)
}

// warm has the broker compile what it runs, which takes a second of the processors of
// whoever comes first.
func (b *broker) warm(ctx context.Context, o options, all bodies) error {
	const name = "warm"
	remove, err := b.topic(ctx, name, int32(o.partitions), nil)
	if err != nil {
		return err
	}
	_, err = produceOnce(ctx, o, b, name, all(0))
	return errors.Join(err, remove())
}

// drainOnce fills a stream, lets it go, and is the rate at which the topic fills.
func drainOnce(ctx context.Context, o options, b *broker, topic string, next func() []byte) (rate float64, err error) {
	dir := filepath.Join(o.dir, fmt.Sprintf("data-%d", os.Getpid()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	policy := func(rate string) string {
		return strings.NewReplacer("BROKER", b.public, "TOPIC", topic, "RATE", rate).Replace(kafkaDrainPolicy)
	}
	p, err := startForebay(o.forebay, dir, policy("0"))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	for range drainMessages / perBatch {
		if err := post(ctx, "http://"+p.public+"/v1/orders", next()); err != nil {
			return 0, err
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "policy.yaml"), []byte(policy("unlimited")), 0o600); err != nil {
		return 0, err
	}
	began := time.Now()
	if _, err := p.ask(ctx, http.MethodPost, "/api/v1/reload"); err != nil {
		return 0, err
	}
	return b.fills(ctx, topic, began)
}

func post(ctx context.Context, url string, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusAccepted {
		err = fmt.Errorf("status %d: %s", resp.StatusCode, text)
	}
	return err
}

// fills waits until a topic has all records, and returns the rate since.
func (b *broker) fills(ctx context.Context, topic string, since time.Time) (rate float64, err error) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	limit := time.Now().Add(5 * time.Minute)
	for {
		ends, err := b.admin.ListEndOffsets(ctx, topic)
		if err != nil {
			return 0, err
		}
		n := int64(0)
		for _, end := range ends[topic] {
			n += end.Offset
		}
		if took := time.Since(since); n >= drainMessages {
			return float64(n) / took.Seconds(), nil
		}
		if time.Now().After(limit) {
			return 0, fmt.Errorf("topic %s has %d of %d records after 5 minutes", topic, n, drainMessages)
		}
		<-tick.C
	}
}

// produceOnce gives a producer the same records. All that they have lies in memory, and
// what they have in common is there once: to make it is not measured.
func produceOnce(ctx context.Context, _ options, b *broker, topic string, next func() []byte) (rate float64, err error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(b.public), kgo.DefaultProduceTopic(topic),
		kgo.ProducerBatchCompression(kgo.ZstdCompression()), kgo.ProducerBatchMaxBytes(1<<20), kgo.ProducerLinger(0))
	if err != nil {
		return 0, err
	}
	defer client.Close()
	var lines, texts [][]byte
	random := rand.NewChaCha8([32]byte{})
	for range drainMessages / perBatch {
		lines = append(lines, bytes.Split(bytes.TrimSuffix(bytes.Clone(next()), []byte("\n")), []byte("\n"))...)
		texts = appendTexts(texts, random)
	}
	failed := make(chan error, 1)
	done := func(_ *kgo.Record, err error) {
		if err != nil {
			select {
			case failed <- err:
			default:
			}
		}
	}
	began := time.Now()
	common := commonHeaders(began)
	for i, line := range lines {
		client.Produce(ctx, &kgo.Record{Value: line, Headers: headersOf(common, texts[i])}, done)
	}
	if err := client.Flush(ctx); err != nil {
		return 0, err
	}
	select {
	case err := <-failed:
		return 0, err
	default:
		return b.fills(ctx, topic, began)
	}
}

// The texts of a record, one behind the other: its id, its trace and, at the end, its
// place in a batch.
const (
	traceAt = 26
	batchAt = traceAt + 55
)

// appendTexts appends those of a batch. They are as random as what Forebay makes, which
// is what a compressor works for.
func appendTexts(texts [][]byte, random *rand.ChaCha8) [][]byte {
	var batch [16]byte
	_, _ = random.Read(batch[:]) // it never fails
	var all []byte
	for i := range perBatch {
		var own [40]byte
		_, _ = random.Read(own[:])
		at := len(all)
		all = base32.StdEncoding.WithPadding(base32.NoPadding).AppendEncode(all, own[:16])
		all = fmt.Appendf(all, "00-%x-%x-00%x; index=%d", own[16:32], own[32:], batch, i)
		texts = append(texts, all[at:len(all):len(all)])
	}
	return texts
}

// Where those are among the headers.
const batchHeader, traceHeader, idHeader = 2, 5, 8

// commonHeaders are the headers of a delivery but for what is each message's own.
func commonHeaders(at time.Time) []kgo.RecordHeader {
	var headers []kgo.RecordHeader
	for _, h := range [...][2]string{
		// End-to-end fields of the request, as sent. Forebay's records have three more, which
		// nobody asks for: Via, X-Forwarded-Proto and X-Request-Id.
		{"Accept-Encoding", "gzip"},
		{"Content-Type", "application/json"},
		{"Forebay-Batch", ""},
		{"User-Agent", "Go-http-client/1.1"},
		{"X-Forwarded-Host", "127.0.0.1:37845"},
		// What tells of the delivery.
		{"traceparent", ""},
		{"Forebay-Method", http.MethodPost},
		{"Forebay-Target", "/v1/orders"},
		{"Forebay-Id", ""},
		{"Forebay-Attempt", "1"},
		{"Forebay-Accepted-At", at.UTC().Format("2006-01-02T15:04:05.000Z07:00")},
		{"Forebay-Stream", "orders"},
	} {
		headers = append(headers, kgo.RecordHeader{Key: h[0], Value: []byte(h[1])})
	}
	return headers
}

// headersOf are all headers of a record.
func headersOf(common []kgo.RecordHeader, text []byte) []kgo.RecordHeader {
	headers := slices.Clone(common)
	headers[batchHeader].Value = text[batchAt:]
	headers[traceHeader].Value = text[traceAt:batchAt]
	headers[idHeader].Value = text[:traceAt]
	return headers
}
