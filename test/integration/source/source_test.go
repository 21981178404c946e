// Package source_test reads topics of a real broker, through crashes of both sides.
package source_test

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"forebay/test/integration/parts"
)

const (
	records    = 200_000
	partitions = 4
	keys       = 64
)

// shop remembers which record came under which id.
type shop struct {
	mu      sync.Mutex
	idOf    map[string]string // by record
	source  map[string]string // by id
	last    map[string]int    // number, by key
	faults  []string
	repeats int
}

func newShop(t *testing.T) (*shop, string) {
	s := &shop{idOf: map[string]string{}, source: map[string]string{}, last: map[string]int{}}
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	return s, srv.URL
}

func (s *shop) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body) // a body cut short is no number
	id, source, key := r.Header.Get("Forebay-Id"), r.Header.Get("Forebay-Source"), r.Header.Get("Forebay-Source-Key")
	n, err := strconv.Atoi(string(body))
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.source[id] == source && s.idOf[source] == id {
		s.repeats++ // of a delivery that a crash cut off
		return
	}
	switch {
	case err != nil:
		s.fault("%s has the body %q", source, body)
	case s.source[id] != "":
		s.fault("%s is two records: %s and %s", id, s.source[id], source)
	case s.idOf[source] != "":
		s.fault("record %s was stored twice: %s and %s", source, s.idOf[source], id)
	case s.last[key] >= n && n >= keys:
		s.fault("%s: %d came after %d", key, n, s.last[key])
	}
	s.idOf[source], s.source[id], s.last[key] = id, source, n
}

func (s *shop) fault(format string, args ...any) {
	if len(s.faults) < 20 {
		s.faults = append(s.faults, fmt.Sprintf(format, args...))
	}
}

func policy(broker, sink, more string) string {
	return fmt.Sprintf(`version: 1
sources: [{ name: legacy, kafka: { brokers: [%q], topics: [orders.raw], group: forebay }, stream: orders, path: /v1/orders, from: oldest%s }]
streams: [{ name: orders, ordering_key: ["kafka:key"], max_message_bytes: 64KiB }]
sinks: [{ name: shop, http: { urls: [%q] }, budget: { concurrency: { max: 64 } } }]
drains: [{ name: d, stream: orders, sink: shop }]
`, broker, more, sink)
}

// source is what the admin API says of the one source.
type source struct {
	State      string `json:"state"`
	Lag        int64  `json:"lag"`
	LastError  string `json:"last_error"`
	Partitions []struct {
		Next int64 `json:"next"`
	} `json:"partitions"`
}

func sourceOf(t *testing.T, f *parts.Forebay) source {
	t.Helper()
	text, code := f.Command("sources", "-o", "json")
	var all []source
	if err := json.Unmarshal([]byte(text), &all); code != 0 || err != nil || len(all) != 1 {
		t.Fatalf("forebay sources: exit %d, %v\n%s", code, err, text)
	}
	return all[0]
}

// agrees waits until the source has its partitions, and holds their places against what
// the buffer has accepted.
func agrees(t *testing.T, f *parts.Forebay) {
	t.Helper()
	parts.Until(t, 2*time.Minute, "places and buffer are seen at one moment", func() bool {
		before, at, after := f.Stream("orders").Accepted, sourceOf(t, f), f.Stream("orders").Accepted
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

// produce writes the records, whatever becomes of the broker meanwhile. It says when all
// are there.
func produce(t *testing.T, k *parts.Kafka) (done <-chan struct{}) {
	client := k.Client(kgo.DefaultProduceTopic("orders.raw"), kgo.UnknownTopicRetries(-1))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for n := 0; n < records; {
			var batch []*kgo.Record
			for range 500 {
				batch = append(batch, &kgo.Record{Key: fmt.Appendf(nil, "key %d", n%keys), Value: []byte(strconv.Itoa(n))})
				n++
			}
			if err := client.ProduceSync(t.Context(), batch...).FirstErr(); err != nil {
				t.Errorf("produce: %v", err)
				return
			}
		}
	}()
	return ended
}

// TestCrashes: through five kills of the program and two of the broker each record is
// stored once, and each key's are delivered in order.
func TestCrashes(t *testing.T) {
	k := parts.StartKafka(t, parts.KafkaOptions{})
	k.CreateTopic("orders.raw", partitions, nil)
	s, url := newShop(t)
	f := parts.StartForebay(t, policy(k.Addr, url, ""), parts.ForebayOptions{})
	done := produce(t, k)
	for i := range 7 {
		<-time.After(time.Duration(500+rand.IntN(2500)) * time.Millisecond) // anywhere in its work
		if i%3 == 2 {
			k.Kill()
			<-time.After(time.Duration(rand.IntN(2000)) * time.Millisecond)
			k.Restart()
			continue
		}
		f.Kill()
		f.Restart()
		agrees(t, f)
	}
	<-done
	parts.Until(t, 5*time.Minute, "all is stored", func() bool { return f.Stream("orders").Accepted >= records })
	a := f.Settle("d", 5*time.Minute)
	if a.Accepted != records || a.Delivered != records || a.Imbalance != 0 {
		t.Errorf("audit = %+v, want %d records accepted and delivered", a, records)
	}
	s.mu.Lock()
	if len(s.idOf) != records || len(s.faults) > 0 {
		t.Errorf("%d records came, want %d; %d faults: %q", len(s.idOf), records, len(s.faults), s.faults)
	}
	t.Logf("%d records, %d deliveries repeated", len(s.idOf), s.repeats)
	s.mu.Unlock()

	// The group is told, for tools that look at its lag.
	admin := kadm.NewClient(k.Client())
	parts.Until(t, time.Minute, "the group's offsets are at the end", func() bool {
		at, err := admin.FetchOffsets(t.Context(), "forebay")
		sum := int64(0)
		at.Each(func(o kadm.OffsetResponse) { sum += o.At })
		return err == nil && sum == records
	})
	if code := f.Stop(); code != 0 {
		t.Errorf("exit %d after SIGTERM", code)
	}
}

// TestAway: a broker that is away for a while, a topic that is not there yet and one that is
// made again are told, and the source goes on by itself.
func TestAway(t *testing.T) {
	k := parts.StartKafka(t, parts.KafkaOptions{})
	_, url := newShop(t)
	f := parts.StartForebay(t, policy(k.Addr, url, ""), parts.ForebayOptions{})
	failing := func(what string) {
		t.Helper()
		parts.Until(t, time.Minute, "the source says "+what, func() bool {
			s := sourceOf(t, f)
			return s.State == "failing" && s.LastError != ""
		})
	}
	client := k.Client(kgo.DefaultProduceTopic("orders.raw"))
	accepted := int64(0)
	add := func(client *kgo.Client, n int) {
		t.Helper()
		for i := range n {
			if err := client.ProduceSync(t.Context(), &kgo.Record{Key: []byte("k"), Value: []byte(strconv.Itoa(keys + int(accepted) + i))}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		accepted += int64(n)
		parts.Until(t, 2*time.Minute, fmt.Sprintf("%d records are stored", accepted), func() bool { return f.Stream("orders").Accepted == accepted })
	}
	failing("that the topic is not there")
	k.CreateTopic("orders.raw", 1, nil)
	add(client, 5)
	k.Kill()
	failing("that the broker is away")
	k.Restart()
	add(client, 5)

	admin := kadm.NewClient(k.Client())
	if _, err := admin.DeleteTopic(t.Context(), "orders.raw"); err != nil {
		t.Fatal(err)
	}
	parts.Until(t, time.Minute, "the topic is gone", func() bool {
		topics, err := admin.ListTopics(t.Context(), "orders.raw")
		return err == nil && !topics.Has("orders.raw")
	})
	k.CreateTopic("orders.raw", 1, nil)
	add(k.Client(kgo.DefaultProduceTopic("orders.raw")), 20)
	if text, code := f.Command("events"); code != 0 || !strings.Contains(text, "source-topic-made-again") {
		t.Errorf("events: exit %d\n%s", code, text)
	}
}
