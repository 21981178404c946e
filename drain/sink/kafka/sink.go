package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/semaphore"

	"forebay/drain"
	"forebay/policies"
)

// What an attempt takes. Brokers get batches by partition, made of what all attempts
// have at the moment.
const (
	maxMessages = 1000
	maxBytes    = 4 << 20
)

// crowd is more attempts than there can be at once.
const crowd = 1 << 30

// Sink delivers messages as records of a topic. It is safe for concurrent use.
type Sink struct {
	policy policies.KafkaSink
	client *kgo.Client
	reach  *reach
	// together is held by attempts; who has to be alone takes all of it.
	together *semaphore.Weighted

	mu     sync.Mutex
	users  int  // guarded by mu
	closed bool // guarded by mu; the last of the users closes the client
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
	opts = append(opts[:len(opts):len(opts)],
		kgo.WithHooks(reach),
		kgo.ProducerBatchCompression(codec),
		kgo.ProducerBatchMaxBytes(int32(k.MaxBatchBytes)),
		// An attempt that has to end says so, though a record may have got through.
		kgo.AllowIdempotentProduceCancellation(),
		kgo.RecordDeliveryTimeout(k.Timeout),
		kgo.ProduceRequestTimeout(min(k.Timeout, produceTimeout)),
		kgo.UnknownTopicRetries(1),
		kgo.MaxBufferedRecords(max(1, p.Budget.Concurrency)*maxMessages),
	)
	if k.Acks == policies.AcksLeader {
		opts = append(opts, kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite())
	}
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, err
	}
	return &Sink{policy: k, client: client, reach: reach, together: semaphore.NewWeighted(crowd)}, nil
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

// CloseIdleConnections closes the client once no attempt uses it. Attempts that
// come later are not made.
func (s *Sink) CloseIdleConnections() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.closeUnused()
}

// enter counts a user of the client, which has to leave; false: there is no client any more.
func (s *Sink) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.users++
	return true
}

func (s *Sink) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users--
	s.closeUnused()
}

// closeUnused requires that mu is held.
func (s *Sink) closeUnused() {
	if s.closed && s.users == 0 {
		s.client.Close()
	}
}

// Deliver implements drain.Sink. It blocks for at most the sink's total time-out.
// Messages of one key do not come together: the buffer hands out one at a time.
func (s *Sink) Deliver(ctx context.Context, msgs []drain.Delivery) []drain.Outcome {
	if !s.enter() {
		return all(msgs, drain.Outcome{Unsent: true, Error: "the sink was replaced"})
	}
	defer s.leave()
	ctx, cancel := context.WithTimeout(ctx, s.policy.Timeout)
	defer cancel()
	if err := s.reach.ensure(ctx, s.client); err != nil {
		return all(msgs, outcome(err, s.policy.Topic))
	}
	if drain.Begin(ctx) != nil {
		return all(msgs, drain.Outcome{Unsent: true, Error: "not sent"})
	}
	errs := s.produce(ctx, records(s.policy.Topic, msgs))
	outcomes := make([]drain.Outcome, len(msgs))
	for i, err := range errs {
		outcomes[i] = outcome(s.reach.explain(err), s.policy.Topic)
	}
	return outcomes
}

func all(msgs []drain.Delivery, o drain.Outcome) []drain.Outcome {
	outcomes := make([]drain.Outcome, len(msgs))
	for i := range outcomes {
		outcomes[i] = o
	}
	return outcomes
}
