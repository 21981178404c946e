package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/semaphore"

	"forebay/drain"
	"forebay/policies"
)

// What an attempt takes. Brokers get batches by partition, made of what all attempts
// have at the moment: larger attempts make no larger batches, and more memory to walk.
const (
	maxMessages = 500
	maxBytes    = 4 << 20
)

// metadataAge is how long the producer believes who leads a partition, once a broker
// says that it is another.
const metadataAge = 100 * time.Millisecond

// crowd is more attempts than there can be at once.
const crowd = 1 << 30

// Sink delivers messages as records of a topic. It is safe for concurrent use.
type Sink struct {
	policy    policies.KafkaSink
	producers *producers
	reach     *reach
	// together is held by attempts; who has to be alone takes all of it.
	together *semaphore.Weighted
	attempts sync.Pool // of *attempt whose records the producer has forgotten
}

// New builds a sink on a client's options, which say how to connect. It connects
// to nothing. An error says what in the policy it cannot work with.
func New(p policies.Sink, opts []kgo.Opt) (*Sink, error) {
	if p.Kafka == nil {
		return nil, errors.New("not a kafka sink")
	}
	k := *p.Kafka
	codec, err := codecOf(k.Compression)
	if err != nil {
		return nil, err
	}
	reach := &reach{}
	opts = append(slices.Clip(opts),
		kgo.WithHooks(reach),
		kgo.ProducerBatchCompression(codec),
		kgo.ProducerBatchMaxBytes(int32(k.MaxBatchBytes)),
		// An attempt that has to end says so, though a record may have got through. It ends by
		// its context: the producer's own time-out counts from a record's timestamp, which is
		// when the message was accepted.
		kgo.AllowIdempotentProduceCancellation(),
		kgo.ProduceRequestTimeout(max(min(k.Timeout, produceTimeout), time.Second)),
		kgo.UnknownTopicRetries(1),
		kgo.MetadataMinAge(metadataAge),
		kgo.ProducerLinger(0), // an attempt has all that it will have
		kgo.MaxBufferedRecords(max(1, p.Budget.Concurrency)*maxMessages),
	)
	if k.Acks == policies.AcksLeader {
		opts = append(opts, kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite())
	}
	producers, err := newProducers(opts)
	if err != nil {
		return nil, err
	}
	return &Sink{policy: k, producers: producers, reach: reach, together: semaphore.NewWeighted(crowd)}, nil
}

func codecOf(name string) (kgo.CompressionCodec, error) {
	codecs := map[string]kgo.CompressionCodec{
		"zstd": kgo.ZstdCompression(), "lz4": kgo.Lz4Compression(), "snappy": kgo.SnappyCompression(),
		"gzip": kgo.GzipCompression(), "none": kgo.NoCompression(),
	}
	codec, ok := codecs[name]
	if !ok {
		return codec, fmt.Errorf("no compression %q", name)
	}
	return codec, nil
}

// Batch says what an attempt takes.
func (s *Sink) Batch() drain.Batch { return drain.Batch{Messages: maxMessages, Bytes: maxBytes} }

// CloseIdleConnections closes the producer once no attempt uses it. Attempts that
// come later are not made.
func (s *Sink) CloseIdleConnections() { s.producers.close() }

// Deliver implements drain.Sink. It blocks for at most the sink's total time-out.
// Messages of one key do not come together: the buffer hands out one at a time.
func (s *Sink) Deliver(ctx context.Context, msgs []drain.Delivery) []drain.Outcome {
	p := s.producers.enter()
	if p == nil {
		return all(msgs, drain.Outcome{Unsent: true, Error: "the sink was replaced"})
	}
	defer s.producers.leave(p)
	ctx, cancel := context.WithTimeout(ctx, s.policy.Timeout)
	defer cancel()
	if err := s.reach.ensure(ctx, p.Client); err != nil {
		return all(msgs, outcome(err, s.policy.Topic))
	}
	if drain.Begin(ctx) != nil {
		return all(msgs, drain.Outcome{Unsent: true, Error: "not sent"})
	}
	a := s.attempt(msgs)
	s.produce(ctx, p, a)
	outcomes := make([]drain.Outcome, len(msgs))
	for i, err := range a.errs {
		outcomes[i] = outcome(s.reach.explain(err), s.policy.Topic)
	}
	if slices.ContainsFunc(a.errs, spent) {
		s.producers.replace(p)
	}
	if !a.open {
		s.attempts.Put(a)
	}
	return outcomes
}

// attempt returns one at some messages, in the memory of an earlier one where there is one.
func (s *Sink) attempt(msgs []drain.Delivery) *attempt {
	a, ok := s.attempts.Get().(*attempt)
	if !ok {
		a = new(attempt)
	}
	a.load(s.policy.Topic, msgs)
	return a
}

func all(msgs []drain.Delivery, o drain.Outcome) []drain.Outcome {
	outcomes := make([]drain.Outcome, len(msgs))
	for i := range outcomes {
		outcomes[i] = o
	}
	return outcomes
}
