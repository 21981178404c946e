package kafka_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"forebay/test/integration/parts"
)

const customers = 1000

// ledger holds what one sink got against what was written.
type ledger struct {
	idOf    []string       // by the number of the order; empty: it has not come
	orderOf map[string]int // by id
	last    map[string]int // the number, by customer
	repeats int
	faults  faults
}

func newLedger(orders int) *ledger {
	return &ledger{idOf: make([]string, orders), orderOf: make(map[string]int, orders), last: make(map[string]int)}
}

// came notes a message, and reports whether it came for the first time.
func (l *ledger) came(id, key string, body []byte) (o order, first bool) {
	if err := json.Unmarshal(body, &o); err != nil || o.N < 0 || o.N >= len(l.idOf) || o != orderOf(o.N, customers) || key != o.Customer {
		l.faults.add("%s of %s is no order: %q", id, key, body)
		return o, false
	}
	if had := l.idOf[o.N]; had != "" {
		if l.repeats++; had != id {
			l.faults.add("order %d is two messages: %s and %s", o.N, had, id)
		}
		return o, false
	}
	if other, known := l.orderOf[id]; known || id == "" {
		l.faults.add("message %q is two orders: %d and %d", id, other, o.N)
	}
	if last, known := l.last[o.Customer]; known && last >= o.N {
		l.faults.add("%s: order %d came after %d", o.Customer, o.N, last)
	}
	l.idOf[o.N], l.orderOf[id], l.last[o.Customer] = id, o.N, o.N
	return o, true
}

func (l *ledger) check(t *testing.T, what string) {
	t.Helper()
	if len(l.orderOf) != len(l.idOf) || len(l.faults) > 0 {
		t.Errorf("%s got %d orders, want %d; %q", what, len(l.orderOf), len(l.idOf), l.faults)
	}
	t.Logf("%s: %d orders, %d repeated", what, len(l.orderOf), l.repeats)
}

// shop is an HTTP sink that knows during which life of the program a connection was made.
type shop struct {
	mu     sync.Mutex
	life   int   // guarded by mu
	lifeOf []int // guarded by mu; in which each order came
	got    *ledger
}

type lifeKey struct{}

func newShop(t *testing.T, orders int) (*shop, string) {
	s := &shop{got: newLedger(orders), lifeOf: make([]int, orders)}
	srv := httptest.NewUnstartedServer(s)
	srv.Config.ConnContext = func(ctx context.Context, _ net.Conn) context.Context {
		s.mu.Lock()
		defer s.mu.Unlock()
		return context.WithValue(ctx, lifeKey{}, s.life)
	}
	srv.Start()
	t.Cleanup(srv.Close)
	return s, srv.URL
}

func (s *shop) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	life, _ := r.Context().Value(lifeKey{}).(int)
	if err != nil {
		return // the program was killed amid
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	id := r.Header.Get("Forebay-Id")
	switch o, first := s.got.came(id, r.Header.Get("Forebay-Source-Key"), body); {
	case first:
		s.lifeOf[o.N] = life
	case s.got.idOf[o.N] == id && s.lifeOf[o.N] == life:
		s.got.faults.add("order %d came twice without a crash", o.N)
	}
}

func (s *shop) nextLife() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.life++
}

// crashPolicy reads a topic and delivers it twice, at a pace.
func crashPolicy(broker, url string, rate int) string {
	return fmt.Sprintf(`version: 1
sources: [{ name: legacy, kafka: { brokers: [%[1]q], topics: [%[2]s], group: forebay }, stream: orders, path: /v1/orders, from: oldest }]
streams: [{ name: orders, ordering_key: ["kafka:key"] }]
sinks:
  - { name: shop, http: { urls: [%[4]q] }, budget: { concurrency: { max: 64 } } }
  - { name: events, kafka: { brokers: [%[1]q], topic: %[3]s, timeout: { total: 60s } }, breaker: { min_requests: 1, window: 5s, open_for: 500ms }, slow_start: 0s }
drains:
  - { name: to-shop, stream: orders, sink: shop, schedule: { base: %[5]d/s } }
  - { name: to-events, stream: orders, sink: events, schedule: { base: %[5]d/s }, retry: { backoff: { initial: 100ms, max: 1s } } }
`, broker, raw, out, url, rate)
}

// agrees waits until the source has its partitions, and holds their places against what
// the buffer has accepted.
func agrees(t *testing.T, f *parts.Forebay) {
	t.Helper()
	parts.Until(t, 3*time.Minute, "places and buffer are seen at one moment", func() bool {
		before, at, after := f.Stream("orders").Accepted, f.Source("legacy"), f.Stream("orders").Accepted
		if len(at.Partitions) < partitions || before != after {
			return false
		}
		sum := int64(0)
		for _, p := range at.Partitions {
			sum += p.Next
		}
		if sum != before {
			t.Errorf("the source is at %d records, the buffer has accepted %d", sum, before)
		}
		return true
	})
}

// settled are the ends of a topic that nobody writes to any more: what a process sent
// before it was killed may be written a moment later.
func settled(t *testing.T, k *parts.Kafka, topic string) (at map[int32]int64) {
	t.Helper()
	same := 0
	parts.Until(t, time.Minute, "nothing is written any more", func() bool {
		now := ends(t, k, topic)
		if same++; !maps.Equal(now, at) {
			at, same = now, 0
		}
		return same == 5
	})
	return at
}

// TestCrashes: orders go from a topic through a paced drain to a service and through another
// to a topic, with five kills of the program and two of the broker in between. Each is stored
// once, arrives at both, and comes twice only where a kill of the program fell between.
// FOREBAY_RECORDS=1000000 makes it a million of them.
func TestCrashes(t *testing.T) {
	orders := fromEnv(t, "FOREBAY_RECORDS", 100_000)
	began := time.Now()
	k := parts.StartKafka(t, parts.KafkaOptions{})
	k.CreateTopic(raw, partitions, nil)
	k.CreateTopic(out, partitions, nil)
	s, url := newShop(t, orders)
	f := parts.StartForebay(t, crashPolicy(k.Addr, url, orders/40), parts.ForebayOptions{})
	writer := producer(k, raw)
	const broker = "b"
	var kills []map[int32]int64 // the ends of the topic at each kill of the program
	plan := strings.Split("f f b f f b f -", " ")
	for i, what := range plan {
		from, to := orders*i/len(plan), orders*(i+1)/len(plan)
		written := produce(t, writer, from, to, customers)
		at := int64(from + rand.IntN((to-from)*3/4)) // anywhere in its work
		parts.Until(t, 3*time.Minute, fmt.Sprintf("%d records are stored, and both drains have work", at), func() bool {
			return f.Stream("orders").Accepted >= at && f.Drain("to-shop").Pending > 0 && f.Drain("to-events").Pending > 0
		})
		switch what {
		case "f":
			f.Kill()
			kills = append(kills, settled(t, k, out))
			s.nextLife()
			f.Restart()
		case broker:
			k.Kill()
			k.Restart()
		}
		agrees(t, f)
		<-written
	}
	parts.Until(t, 10*time.Minute, "all is stored", func() bool { return f.Stream("orders").Accepted >= int64(orders) })
	for _, drain := range []string{"to-shop", "to-events"} {
		if a := f.Settle(drain, 20*time.Minute); a.Accepted != int64(orders) || a.Delivered != a.Accepted || a.Imbalance != 0 || a.Dead != 0 {
			t.Errorf("audit = %+v, want %d orders delivered", a, orders)
		}
	}
	agrees(t, f)
	s.mu.Lock()
	s.got.check(t, "the shop")
	s.mu.Unlock()
	checkTopic(t, k, orders, kills)
	t.Logf("%v in all", time.Since(began).Round(time.Second))
	if code := f.Stop(); code != 0 {
		t.Errorf("exit %d after SIGTERM", code)
	}
}

// checkTopic reads the sink's topic. The two records of an order that came twice lie on
// both sides of where a kill found the topic.
func checkTopic(t *testing.T, k *parts.Kafka, orders int, kills []map[int32]int64) {
	t.Helper()
	got, at := newLedger(orders), make([]int64, orders)
	read(t, k, out, func(r *kgo.Record) {
		o, first := got.came(header(r, "Forebay-Id"), string(r.Key), r.Value)
		if first {
			at[o.N] = r.Offset
			return
		}
		crashed := 0
		for _, ends := range kills {
			if end := ends[r.Partition]; at[o.N] < end && end <= r.Offset {
				crashed++
			}
		}
		if crashed == 0 {
			got.faults.add("order %d is at %d and at %d of partition %d, without a crash in between", o.N, at[o.N], r.Offset, r.Partition)
		}
	})
	got.check(t, "the topic")
}
