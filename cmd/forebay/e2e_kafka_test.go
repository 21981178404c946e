package main_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// kafkaPolicy delivers orders to the topic orders.v1, by customer; more is of the sink.
func kafkaPolicy(broker, base, more string) string {
	return fmt.Sprintf(`version: 1
sinks:
  - { name: shop, kafka: { brokers: ["%s"], topic: orders.v1%s }, breaker: { min_requests: 1, window: 2s, open_for: 200ms }, slow_start: 0s }
streams:
  - { name: orders, ordering_key: ["json:/customer"] }
drains:
  - { name: orders-to-shop, stream: orders, sink: shop, schedule: { base: %s }, retry: { backoff: { initial: 50ms, max: 200ms } } }
routes:
  - { name: create-order, match: { methods: [POST], path: /v1/orders }, mode: buffer, stream: orders }
`, broker, more, base)
}

// cluster is a broker in this process that can be restarted where it was.
type cluster struct {
	*kfake.Cluster
	t   *testing.T
	dir string
}

func newCluster(t *testing.T) *cluster {
	c := &cluster{t: t, dir: t.TempDir()}
	c.start(0)
	t.Cleanup(func() { c.Close() })
	return c
}

func (c *cluster) start(port int) {
	c.t.Helper()
	var err error
	c.Cluster, err = kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(port), kfake.DataDir(c.dir), kfake.SeedTopics(3, "orders.v1"))
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) broker() string { return c.ListenAddrs()[0] }

// restart ends the broker, has something done, and starts it again.
func (c *cluster) restart(meanwhile func()) {
	c.t.Helper()
	_, port, err := net.SplitHostPort(c.broker())
	if err != nil {
		c.t.Fatal(err)
	}
	c.Close()
	meanwhile()
	n, err := strconv.Atoi(port)
	if err != nil {
		c.t.Fatal(err)
	}
	c.start(n)
}

func (c *cluster) count() (n int64) {
	for _, p := range c.PartitionInfos("orders.v1") {
		n += p.HighWatermark
	}
	return n
}

// arrivals reads the topic as the log of a sink, one partition after another: order is
// within partitions alone.
func (c *cluster) arrivals() []arrival {
	c.t.Helper()
	want := c.count()
	client, err := kgo.NewClient(kgo.SeedBrokers(c.broker()), kgo.ConsumeTopics("orders.v1"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		c.t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	var records []*kgo.Record
	for int64(len(records)) < want {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			c.t.Fatal(err)
		}
		records = append(records, fetches.Records()...)
	}
	var log []arrival
	for _, r := range records {
		a := arrival{Status: 200, Whole: true}
		for _, h := range r.Headers {
			if h.Key == "Forebay-Id" {
				a.ID = string(h.Value)
			}
		}
		log = append(log, a)
	}
	return log
}

// Orders become records, in turn by customer and each once, though the broker goes
// away amid, which why says. Another test might be given its port meanwhile, so none
// runs beside it.
func TestKafkaSink(t *testing.T) {
	c := newCluster(t)
	srv := newSite(t, kafkaPolicy(c.broker(), "400/s", "")).start()
	posted, keys := make(turns), make([]string, 40) // what is under way at the end of the broker are a few of them
	for i := range keys {
		keys[i] = fmt.Sprint("customer-", i)
	}
	posted.post(t, srv.public, keys, 0, 5)
	until(t, 20*time.Second, "records", func() bool { return c.count() > 20 })
	c.restart(func() {
		posted.post(t, srv.public, keys, 5, 5) // accepting goes on
		var w whyView
		until(t, 20*time.Second, "why names the breaker and its reason", func() bool {
			cliJSON(t, srv, "why orders-to-shop", "", &w)
			return w.Binding == "breaker" && slices.ContainsFunc(w.Constraints, func(c struct {
				Name, Detail string
				Until        *time.Time
			},
			) bool {
				return strings.Contains(c.Detail, "connection re") // refused, or reset
			})
		})
	})
	if got := settle(t, srv, 60*time.Second); got.Delivered != len(posted) || got.Dead != 0 {
		t.Errorf("audit = %+v, want %d delivered", got, len(posted))
	}
	log := c.arrivals()
	if got := len(posted.attempts(log)); got != len(posted) || len(log) != got {
		t.Errorf("%d records of the %d orders, of %d", got, len(posted), len(log))
	}
	if wrong := posted.inversion(log); wrong != "" {
		t.Error(wrong)
	}
	srv.stop()
}

// What no broker will ever take is buried with its reason; a topic that is not there
// yet is waited for.
func TestKafkaRefusals(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	if err := c.CreateTopic("small", 1, map[string]string{"max.message.bytes": "2000"}); err != nil {
		t.Fatal(err)
	}
	srv := newSite(t, strings.ReplaceAll(kafkaPolicy(c.broker(), "unlimited", ", compression: none"), "orders.v1", "small")).start()
	caller := newCaller(t, 1)
	large, err := caller.post(srv.public, []byte(`{"customer":"ann","note":"`+strings.Repeat("x", 3000)+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	postAll(t, srv.public, realOrders(t)[:3], 1)
	until(t, 20*time.Second, "the large one buried, and the others delivered", func() bool {
		got := audit(t, srv)
		return got.Dead == 1 && got.Delivered == 3
	})
	if d := getReceipt(t, caller, srv.public, large.ID).Drains[0]; !strings.Contains(d.LastError, "record too large: MESSAGE_TOO_LARGE") {
		t.Errorf("last error %q", d.LastError)
	}
	srv.stop()
}

// A group that stops holds the drain back, which why and sinks say; it goes on when the
// group has caught up.
func TestKafkaLag(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	srv := newSite(t, kafkaPolicy(c.broker(), "100/s", ", max_consumer_lag: { group: crm, messages: 100 }")).start()
	orders := realOrders(t)
	postAll(t, srv.public, orders, 8)
	until(t, 30*time.Second, "held by the lag", func() bool {
		var w whyView
		cliJSON(t, srv, "why orders-to-shop", "", &w)
		return w.Binding == "kafka-lag" && c.count() >= 100
	})
	if n := c.count(); n >= int64(len(orders)) {
		t.Fatalf("all of %d orders were sent to a group that stands", n)
	}
	if v, ok := metric(t, srv, `forebay_drain_binding{constraint="kafka-lag",drain="orders-to-shop"}`); !ok || v != 1 {
		t.Errorf("forebay_drain_binding of kafka-lag = %v, %v", v, ok)
	}
	if v, ok := metric(t, srv, `forebay_sink_consumer_lag_messages{sink="shop"}`); !ok || v < 100 {
		t.Errorf("forebay_sink_consumer_lag_messages = %v, %v", v, ok)
	}
	out, _, _ := command(t, "sinks", "--admin-url", srv.admin)
	if !strings.Contains(out, "kafka-lag") || !strings.Contains(out, "shop waits for group crm: ") || !strings.Contains(out, "of at most 100") {
		t.Errorf("sinks prints\n%s", out)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(c.broker()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	until(t, 60*time.Second, "all sent, as the group catches up", func() bool {
		offsets := make(kadm.Offsets)
		for _, p := range c.PartitionInfos("orders.v1") {
			offsets.AddOffset("orders.v1", p.Partition, p.HighWatermark, -1)
		}
		if _, err := kadm.NewClient(client).CommitOffsets(t.Context(), "crm", offsets); err != nil {
			t.Fatal(err)
		}
		return c.count() == int64(len(orders))
	})
	if got := settle(t, srv, 20*time.Second); got.Delivered != len(orders) {
		t.Errorf("audit = %+v", got)
	}
	srv.stop()
}
