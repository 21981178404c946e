// Package kafka_test runs the program between topics of a real broker.
package kafka_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"forebay/test/integration/parts"
)

const (
	raw, out   = "orders.raw", "orders.v1" // what is read, and what is written
	partitions = 4
)

// fromEnv reads a number that a longer run sets.
func fromEnv(t *testing.T, name string, usual int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return usual
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%s is no number from 1", name, text)
	}
	return n
}

// order is what records and messages hold.
type order struct {
	Customer string `json:"customer"`
	N        int    `json:"n"`
	Note     string `json:"note,omitempty"`
}

func (o order) bytes() []byte {
	text, _ := json.Marshal(o) // two texts and a number
	return text
}

// orderOf is the order of a number, one of so many customers in turn.
func orderOf(n, customers int) order {
	return order{Customer: fmt.Sprintf("c%d", n%customers), N: n, Note: "a parcel that may be left with the neighbours at number 14"}
}

// produce writes orders as records, whatever becomes of the broker meanwhile. It says
// when all are there.
func produce(t *testing.T, client *kgo.Client, from, to, customers int) (done <-chan struct{}) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for n := from; n < to; {
			var batch []*kgo.Record
			for ; n < to && len(batch) < 1000; n++ {
				o := orderOf(n, customers)
				batch = append(batch, &kgo.Record{Key: []byte(o.Customer), Value: o.bytes()})
			}
			if err := client.ProduceSync(t.Context(), batch...).FirstErr(); err != nil {
				t.Errorf("produce: %v", err)
				return
			}
		}
	}()
	return ended
}

func producer(k *parts.Kafka, topic string) *kgo.Client {
	return k.Client(kgo.DefaultProduceTopic(topic), kgo.UnknownTopicRetries(-1))
}

// ends are the offsets behind the last record of each partition.
func ends(t *testing.T, k *parts.Kafka, topic string) map[int32]int64 {
	t.Helper()
	client := k.Client()
	defer client.Close()
	listed, err := kadm.NewClient(client).ListEndOffsets(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	at := make(map[int32]int64)
	for n, end := range listed[topic] {
		at[n] = end.Offset
	}
	return at
}

func count(t *testing.T, k *parts.Kafka, topic string) (n int64) {
	t.Helper()
	for _, end := range ends(t, k, topic) {
		n += end
	}
	return n
}

// read hands out all records of a topic, those of a partition in their order.
func read(t *testing.T, k *parts.Kafka, topic string, each func(*kgo.Record)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	client := k.Client(kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer client.Close()
	for left := count(t, k, topic); left > 0; {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("%d records of %s are not read: %v", left, topic, err)
		}
		fetches.EachRecord(func(r *kgo.Record) { each(r); left-- })
	}
}

func header(r *kgo.Record, name string) string {
	i := slices.IndexFunc(r.Headers, func(h kgo.RecordHeader) bool { return h.Key == name })
	if i < 0 {
		return ""
	}
	return string(r.Headers[i].Value)
}

// faults are what is wrong, the first of it.
type faults []string

func (f *faults) add(format string, args ...any) {
	if len(*f) < 20 {
		*f = append(*f, fmt.Sprintf(format, args...))
	}
}
