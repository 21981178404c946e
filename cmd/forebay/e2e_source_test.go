package main_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"forebay/cmd/forebay/admin"
)

// sourcePolicy reads orders.raw into the tests' stream; more goes into the source.
func sourcePolicy(broker, sinkURL, base, more string) string {
	policy, _, _ := strings.Cut(orderPolicy(sinkURL, base), "routes:")
	policy = strings.Replace(policy, "  - name: orders\n", "  - name: orders\n    ordering_key: [\"kafka:key\"]\n    max_message_bytes: 64KiB\n", 1)
	return policy + fmt.Sprintf(`sources:
  - name: legacy
    kafka: { brokers: [%q], topics: [orders.raw], group: forebay }
    stream: orders
    path: /v1/orders
    from: oldest
%s`, broker, more)
}

// producer writes records of few keys, numbered in each, until it is stopped.
type producer struct {
	t      *testing.T
	client *kgo.Client
	stop   chan struct{}
	done   sync.WaitGroup
	n      int // that are in the topic, once it is stopped
}

const sourceKeys = 16

func startProducer(t *testing.T, broker string) *producer {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.DefaultProduceTopic("orders.raw"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	p := &producer{t: t, client: client, stop: make(chan struct{})}
	p.done.Go(p.run)
	return p
}

func (p *producer) run() {
	for {
		var batch []*kgo.Record
		for range 100 {
			batch = append(batch, &kgo.Record{Key: []byte("key " + strconv.Itoa(p.n%sourceKeys)), Value: []byte(strconv.Itoa(p.n)), Headers: []kgo.RecordHeader{{Key: "x-number", Value: []byte(strconv.Itoa(p.n))}}})
			p.n++
		}
		if err := p.client.ProduceSync(p.t.Context(), batch...).FirstErr(); err != nil {
			p.t.Errorf("produce: %v", err)
			return
		}
		select {
		case <-p.stop:
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (p *producer) end() int {
	close(p.stop)
	p.done.Wait()
	return p.n
}

func sourceOf(t *testing.T, srv *server) admin.Source {
	t.Helper()
	stdout, stderr, code := command(t, "sources", "-o", "json", "--admin-url", srv.admin)
	var all []admin.Source
	if err := json.Unmarshal([]byte(stdout), &all); code != 0 || err != nil || len(all) != 1 {
		t.Fatalf("forebay sources: exit %d, %v\n%s%s", code, err, stdout, stderr)
	}
	return all[0]
}

// TestTortureSource kills the program at random points while it reads topics of Kafka. Every
// record is stored once: under one id, and no other record has it; and each key's
// are delivered in order.
func TestTortureSource(t *testing.T) {
	t.Parallel()
	forebay(t) // built before records come
	kills := envInt(t, "FOREBAY_TORTURE_KILLS", 2)
	seed := envInt(t, "FOREBAY_TORTURE_SEED", int(time.Now().UnixNano()))
	t.Logf("%d kills, FOREBAY_TORTURE_SEED=%d", kills, seed)
	rng := rand.New(rand.NewPCG(uint64(seed), 7))
	cluster := kfake.MustCluster(kfake.NumBrokers(1), kfake.SeedTopics(4, "orders.raw"))
	defer cluster.Close()
	broker := cluster.ListenAddrs()[0]
	shop := newSink(t, nil)
	policy := strings.Replace(sourcePolicy(broker, shop.url, "unlimited", ""), "2000/s", "5000/s", 1)
	s := newSite(t, policy)
	p := startProducer(t, broker)
	for range kills {
		srv := s.launch()
		// Most of a life is after its start, but not all.
		<-time.After(time.Duration(20+rng.IntN(400)) * time.Millisecond)
		srv.kill()
	}
	srv := s.start()
	n := p.end()
	var at admin.Source
	defer func() {
		if t.Failed() {
			t.Logf("%d records, the source is at %+v", n, at)
		}
	}()
	until(t, 30*time.Second, "all is stored", func() bool {
		at = sourceOf(t, srv)
		return at.Lag == 0 && audit(t, srv).Accepted >= n
	})
	if got := settle(t, srv, time.Minute); got.Accepted != n || got.Delivered != n || got.Imbalance != 0 {
		t.Errorf("audit = %+v, want %d records accepted and delivered", got, n)
	}
	wantRecordsOnce(t, shop.arrivals(), n)
	srv.stop()
}

// wantRecordsOnce holds what a sink saw against n records.
func wantRecordsOnce(t *testing.T, log []arrival, n int) {
	t.Helper()
	idOf, sourceOf, last := map[string]string{}, map[string]string{}, map[string]int{}
	for _, a := range unlessAgain(log) {
		source := a.Header.Get("Forebay-Source")
		number, err := strconv.Atoi(a.Header.Get("X-Number"))
		if err != nil || a.Method != http.MethodPost || a.Target != "/v1/orders" {
			t.Fatalf("%s %s with %v", a.Method, a.Target, a.Header)
		}
		if other, twice := idOf[source]; twice {
			t.Errorf("record %s was stored twice: %s and %s", source, other, a.ID)
		}
		if other, twice := sourceOf[a.ID]; twice {
			t.Errorf("%s is two records: %s and %s", a.ID, other, source)
		}
		idOf[source], sourceOf[a.ID] = a.ID, source
		key := a.Header.Get("Forebay-Source-Key")
		if before, known := last[key]; known && number <= before {
			t.Errorf("%s: %d came after %d", key, number, before)
		}
		last[key] = number
	}
	if len(idOf) != n {
		t.Errorf("%d records were delivered, want %d", len(idOf), n)
	}
}
