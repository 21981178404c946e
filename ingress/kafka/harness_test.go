package kafka

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"forebay/buffer"
	"forebay/buffer/buffertest"
	"forebay/policies"
)

// patience bounds every wait for what a source does in its own time.
const patience = time.Minute

// bench is a cluster, a buffer, and sources between them.
type bench struct {
	t       *testing.T
	cluster *kfake.Cluster
	client  *kgo.Client
	admin   *kadm.Client
	buf     *gauge
	sources *Sources
	end     func()
	policy  string
	options []kgo.Opt // of the sources' clients

	mu     sync.Mutex
	log    bytes.Buffer
	events []string
	closed bool
}

// gauge is a buffer that can be made to refuse.
type gauge struct {
	*buffertest.Mem
	mu      sync.Mutex
	refuse  error
	stored  bool // refuse what is stored all the same
	refused int
	largest int // messages of one append
}

func (g *gauge) set(err error, stored bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.refuse, g.stored = err, stored
}

func (g *gauge) AppendFrom(ctx context.Context, stream string, now time.Time, msgs []buffer.Message, source string, marks []buffer.Bookmark) (a buffer.Accepted, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.largest = max(g.largest, len(msgs))
	if g.refuse == nil || len(msgs) == 0 || g.stored {
		a, err = g.Mem.AppendFrom(ctx, stream, now, msgs, source, marks)
	}
	if g.refuse != nil && len(msgs) > 0 {
		g.refused++
		return buffer.Accepted{}, fmt.Errorf("append to %s: %w", stream, g.refuse)
	}
	return a, err
}

func (g *gauge) Draft(stream string, _ int, _ int64) buffer.Draft {
	return buffertest.NewDraft(g, stream)
}

func (g *gauge) refusals() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.refused
}

const onePolicy = `version: 1
sinks: [{ name: sink, http: { urls: ["https://sink.internal"] }, budget: { rate: 1/s } }]
streams: [{ name: orders, max_message_bytes: 100KiB, ordering_key: ["kafka:key"] }]
drains: [{ name: d, stream: orders, sink: sink }]
sources: [{ name: legacy, kafka: { brokers: [BROKER], topics: [orders.raw], group: forebay }, stream: orders, path: /v1/orders, from: oldest }]
`

// newBench has a cluster with topics of two partitions; nothing runs yet.
func newBench(t *testing.T, opts ...kfake.Opt) *bench {
	t.Helper()
	opts = append([]kfake.Opt{kfake.NumBrokers(1), kfake.SeedTopics(2, "orders.raw", "more"), kfake.GroupMinSessionTimeout(time.Millisecond)}, opts...)
	b := &bench{t: t, cluster: kfake.MustCluster(opts...), policy: onePolicy}
	t.Cleanup(b.cluster.Close)
	b.client = b.connect(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MetadataMinAge(10*time.Millisecond))
	b.admin = kadm.NewClient(b.client)
	b.buf = &gauge{Mem: mem()}
	return b
}

func mem() *buffertest.Mem {
	return buffertest.NewMem(buffer.Stream{Name: "orders", Drains: []string{"d"}})
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func (b *bench) connect(opts ...kgo.Opt) *kgo.Client {
	b.t.Helper()
	client, err := kgo.NewClient(append(opts, kgo.SeedBrokers(b.cluster.ListenAddrs()...))...)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(client.Close)
	return client
}

func (b *bench) parse(policy string) *policies.Set {
	b.t.Helper()
	return parsed(b.t, policy, b.cluster.ListenAddrs()[0])
}

func parsed(t testing.TB, policy, broker string) *policies.Set {
	t.Helper()
	policy = strings.ReplaceAll(policy, "BROKER", strconv.Quote(broker))
	set, mistakes := policies.Parse([]policies.File{{Name: "p.yaml", Data: []byte(policy)}})
	if len(mistakes) > 0 {
		t.Fatalf("%v in\n%s", mistakes, policy)
	}
	return set
}

// start runs sources on what the buffer has, until stop.
func (b *bench) start() {
	b.t.Helper()
	b.sources = New(Config{
		Connect: func(c policies.KafkaConnection) ([]kgo.Opt, error) {
			opts := []kgo.Opt{kgo.SeedBrokers(c.Brokers...), kgo.MetadataMinAge(50 * time.Millisecond), kgo.FetchMaxWait(50 * time.Millisecond)}
			return append(opts, b.options...), nil
		},
		Closed: func(string) (string, bool) {
			b.mu.Lock()
			defer b.mu.Unlock()
			return "maintenance", b.closed
		},
		Event: func(kind, object, detail string) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.events = append(b.events, kind+" "+object+": "+detail)
		},
	}, b.buf, slog.New(slog.NewTextHandler(b, nil)), nil)
	b.sources.look = 50 * time.Millisecond
	b.sources.Apply(b.parse(b.policy))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = b.sources.Run(ctx)
	}()
	b.end = func() { cancel(); <-ended }
	b.t.Cleanup(func() { b.stop() })
}

func (b *bench) stop() {
	if b.end != nil {
		b.end()
		b.end = nil
	}
}

// Write takes what is logged.
func (b *bench) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.log.Write(p)
}

func (b *bench) logged() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.log.String()
}

func (b *bench) told() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.events)
}

// produce writes records to a partition, one batch.
func (b *bench) produce(topic string, partition int32, records ...*kgo.Record) {
	b.t.Helper()
	for _, r := range records {
		r.Topic, r.Partition = topic, partition
	}
	if err := b.client.ProduceSync(b.t.Context(), records...).FirstErr(); err != nil {
		b.t.Fatalf("produce to %s/%d: %v", topic, partition, err)
	}
}

// values are records with those values.
func values(texts ...string) (records []*kgo.Record) {
	for _, text := range texts {
		records = append(records, &kgo.Record{Value: []byte(text)})
	}
	return records
}

func numbered(from, n int) []*kgo.Record {
	var texts []string
	for i := range n {
		texts = append(texts, strconv.Itoa(from+i))
	}
	return values(texts...)
}

// taken are the messages of the stream, in order.
func (b *bench) taken() (msgs []buffer.Message) {
	b.t.Helper()
	for offset := uint64(0); ; offset++ {
		msg, ok := b.buf.Stored("orders", offset)
		if !ok {
			return msgs
		}
		msgs = append(msgs, msg)
	}
}

func (b *bench) bodies() (texts []string) {
	for _, m := range b.taken() {
		texts = append(texts, string(m.Body))
	}
	return texts
}

// want waits until the stream has these bodies, in any order, and each once.
func (b *bench) want(texts ...string) {
	b.t.Helper()
	slices.Sort(texts)
	var got []string
	b.until(func() bool {
		got = b.bodies()
		return len(got) >= len(texts)
	}, "the stream has as many messages as it should have")
	slices.Sort(got)
	if !slices.Equal(got, texts) {
		b.t.Fatalf("the stream has %q, want %q", got, texts)
	}
}

func (b *bench) until(is func() bool, what string) {
	b.t.Helper()
	for deadline := time.Now().Add(patience); !is(); {
		if time.Now().After(deadline) {
			b.t.Fatalf("not within %v: %s\nstatus %+v\nlog\n%s", patience, what, b.sources.Status(), b.logged())
		}
		<-time.After(2 * time.Millisecond)
	}
}

func (b *bench) status() Status {
	b.t.Helper()
	all := b.sources.Status()
	if len(all) != 1 {
		return Status{}
	}
	return all[0]
}

func (b *bench) untilState(want State) Status {
	b.t.Helper()
	var s Status
	b.until(func() bool { s = b.status(); return s.State == want }, "the source is "+string(want))
	return s
}

func field(m buffer.Message, name string) string {
	for _, f := range m.Fields() {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}
