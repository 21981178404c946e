package parts_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

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

// TestKafkaUsers: who has a password gets in by each mechanism, and nobody else.
func TestKafkaUsers(t *testing.T) {
	k := parts.StartKafka(t, parts.KafkaOptions{Users: map[string]string{"alice": "her secret"}})
	ca, err := os.ReadFile(k.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	for _, tt := range []struct {
		name string
		by   func(user, pass string) sasl.Mechanism
	}{
		{"plain", func(user, pass string) sasl.Mechanism { return plain.Auth{User: user, Pass: pass}.AsMechanism() }},
		{"scram-sha-256", func(user, pass string) sasl.Mechanism {
			return scram.Auth{User: user, Pass: pass}.AsSha256Mechanism()
		}},
		{"scram-sha-512", func(user, pass string) sasl.Mechanism {
			return scram.Auth{User: user, Pass: pass}.AsSha512Mechanism()
		}},
	} {
		for pass, in := range map[string]bool{"her secret": true, "a guess": false} {
			client := k.Client(kgo.SeedBrokers(k.SecureAddr), kgo.DialTLSConfig(&tls.Config{RootCAs: roots}), kgo.SASL(tt.by("alice", pass)))
			if err := client.Ping(t.Context()); (err == nil) != in || (!in && !errors.Is(err, kerr.SaslAuthenticationFailed)) {
				t.Errorf("%s with %q: %v, want in: %v", tt.name, pass, err, in)
			}
		}
	}
}
