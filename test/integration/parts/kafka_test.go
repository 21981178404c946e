package parts_test

import (
	"context"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"forebay/test/integration/parts"
)

// TestKafka: a record that the broker acknowledged is there after a kill, on the
// same address.
func TestKafka(t *testing.T) {
	k := parts.StartKafka(t, parts.KafkaOptions{})
	k.CreateTopic("orders", 3, map[string]string{"flush.messages": "1"})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	record := &kgo.Record{
		Topic: "orders", Key: []byte("k"), Value: []byte("an order"),
		Headers: []kgo.RecordHeader{{Key: "Forebay-Id", Value: []byte("1")}},
	}
	if err := k.Client().ProduceSync(ctx, record).FirstErr(); err != nil {
		t.Fatalf("produce: %v", err)
	}
	k.Kill()
	k.Restart()

	consumer := k.Client(kgo.ConsumeTopics("orders"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	fetches := consumer.PollFetches(ctx)
	if err := fetches.Err(); err != nil {
		t.Fatalf("consume: %v", err)
	}
	got := fetches.Records()
	if len(got) != 1 || string(got[0].Key) != "k" || string(got[0].Value) != "an order" || len(got[0].Headers) != 1 {
		t.Fatalf("consumed %d records, want the one that was produced: %+v", len(got), got)
	}
	if code := k.Stop(); code != 143 {
		t.Errorf("exit after SIGTERM = %d, want Java's 143", code)
	}
}
