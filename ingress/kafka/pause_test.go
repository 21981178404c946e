package kafka

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"forebay/buffer"
)

// TestWaits: while the buffer takes nothing, a source waits and says why, without
// hurry, keeps its place in the group, and goes on by itself with nothing lost or twice.
func TestWaits(t *testing.T) {
	for _, tt := range []struct {
		why  error
		want Reason
	}{
		{buffer.ErrBufferFull, BufferFull},
		{buffer.ErrDiskFull, DiskFull},
		{buffer.ErrDeadFull, DeadFull},
		{buffer.ErrOverloaded, Overloaded},
		{buffer.ErrStalled, Overloaded},
		{buffer.ErrNoStream, Closed},
	} {
		t.Run(tt.why.Error(), func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.start()
			b.produce("orders.raw", 0, values("a")...)
			b.want("a")
			b.buf.set(tt.why, false)
			b.produce("orders.raw", 0, values("b")...)
			b.produce("orders.raw", 1, values("c")...)
			if s := b.untilState(Paused); s.Reason != tt.want {
				t.Errorf("reason %s, want %s", s.Reason, tt.want)
			}
			b.until(func() bool { return b.status().Lag == 2 }, "the lag is seen while it waits")
			b.until(func() bool { return b.buf.refusals() > 2 }, "it tries again")
			b.buf.set(nil, false)
			b.want("a", "b", "c")
			if s := b.untilState(Running); s.Reason != "" {
				t.Errorf("reason %s when it runs", s.Reason)
			}
		})
	}
}

// TestWaitsWhileClosed: an operator who closes the stream holds its sources.
func TestWaitsWhileClosed(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	shut := func(closed bool) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.closed = closed
	}
	shut(true)
	b.produce("orders.raw", 0, values("a")...)
	b.start()
	if s := b.untilState(Paused); s.Reason != Closed {
		t.Errorf("reason %s, want %s", s.Reason, Closed)
	}
	if got := b.bodies(); len(got) > 0 {
		t.Errorf("a closed stream took %q", got)
	}
	shut(false)
	b.want("a")
}

// TestWaitsInTheGroup: a source that waits tells its group that it is there.
func TestWaitsInTheGroup(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	beats, joins := make(chan struct{}, 1000), make(chan struct{}, 1000)
	watchKey(b.cluster, kmsg.Heartbeat, beats)
	watchKey(b.cluster, kmsg.JoinGroup, joins)
	b.buf.set(buffer.ErrBufferFull, false)
	b.produce("orders.raw", 0, values("a")...)
	b.start()
	b.untilState(Paused)
	<-beats // every 3 s
	<-beats
	if n := len(joins); n != 1 {
		t.Errorf("the source joined its group %d times", n)
	}
	b.buf.set(nil, false)
	b.want("a")
}

func watchKey(c *kfake.Cluster, key kmsg.Key, seen chan<- struct{}) {
	c.ControlKey(key.Int16(), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		seen <- struct{}{}
		return nil, nil, false
	})
}

// TestPatience: how often a source tries while the buffer refuses, in an hour.
func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, err := kgo.NewClient()
		if err != nil {
			t.Fatal(err)
		}
		buf := &gauge{Mem: mem()}
		buf.set(buffer.ErrBufferFull, false)
		sources := New(Config{Closed: func(string) (string, bool) { return "", false }}, buf, discard(), nil)
		set := parsed(t, onePolicy, "127.0.0.1:1")
		s := newSession(sources.reader(set, &set.Sources[0]))
		s.client = client
		p := &assigned{partition: partition{topic: "orders.raw"}, pending: []*kgo.Record{{Topic: "orders.raw", Value: []byte("a")}}}
		s.parts[p.partition.String()] = p
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		s.store(ctx)
		if n := buf.refusals(); n < 3600 || n > storers*7200+40 {
			t.Errorf("%d attempts in an hour, want one to two a second, for each of %d storers", n, storers)
		}
		client.Close()
	})
}

// TestUndecided: an append whose outcome is open is neither done again nor skipped.
func TestUndecided(t *testing.T) {
	for name, stored := range map[string]bool{"stored": true, "not stored": false} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.buf.set(buffer.ErrUndecided, stored)
			b.produce("orders.raw", 0, values("a", "b")...)
			b.start()
			b.until(func() bool { return b.buf.refusals() > 0 }, "the append is undecided")
			b.buf.set(nil, false)
			b.produce("orders.raw", 0, values("c")...)
			b.want("a", "b", "c")
		})
	}
}

// TestManyAtOnce: what waits is stored in few large commits, and memory is bounded.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	const n = 20_000
	var want []string
	for i := 0; i < n; i += 1000 {
		records := numbered(i, 1000)
		for _, r := range records {
			want = append(want, string(r.Value))
		}
		b.produce("orders.raw", int32(i/1000%2), records...)
	}
	b.start()
	b.want(want...)
	b.buf.mu.Lock()
	defer b.buf.mu.Unlock()
	if b.buf.largest < 1000 || b.buf.largest > maxBatch {
		t.Errorf("the largest append had %d records, want thousands and %d at most", b.buf.largest, maxBatch)
	}
}

// TestRefused: a record that cannot be stored stops its partition, and no other, or goes
// to a topic of its own.
func TestRefused(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("x", 100<<10+1)
	b := newBench(t)
	b.produce("orders.raw", 0, values("a", "b", large, "c")...)
	b.produce("orders.raw", 1, values("d")...)
	b.start()
	b.want("a", "b", "d")
	s := b.untilState(Stopped)
	if s.Stopped != 1 || s.Partitions[0].Next != 2 || !strings.Contains(s.Partitions[0].Stopped, "its value has 102401 bytes, max_message_bytes of stream orders is 102400") {
		t.Errorf("status = %+v", s)
	}
	b.until(func() bool { return len(b.told()) == 1 }, "an event tells it")
	if want := "topic orders.raw partition 0 offset 2 cannot be stored: its value has 102401 bytes"; !strings.Contains(b.told()[0], want) || strings.Count(b.logged(), want) != 1 {
		t.Errorf("event %q and log\n%s\nwant %q in each", b.told(), b.logged(), want)
	}
	b.produce("orders.raw", 1, values("e")...) // the other partition goes on
	b.want("a", "b", "d", "e")

	// A reload with a topic for such records lets the partition go on.
	b.policy = strings.Replace(b.policy, "from: oldest", "from: oldest, on_refused: { topic: more }", 1)
	b.sources.Apply(b.parse(b.policy))
	b.want("a", "b", "d", "e", "c")
	refused := b.consume("more", 1)[0]
	if string(refused.Value) != large {
		t.Errorf("the refused record has %d bytes", len(refused.Value))
	}
	got := fmt.Sprint(headersOf(refused))
	for _, want := range []string{"forebay-source:orders.raw/0/2", "forebay-reason:too-large", "forebay-detail:its value has 102401 bytes"} {
		if !strings.Contains(got, want) {
			t.Errorf("headers %s lack %s", got, want)
		}
	}
	if s := b.untilState(Running); s.Refused != 1 || s.Stopped != 1 {
		t.Errorf("status = %+v", s)
	}
}

// TestRefusedNowhere: the place does not move on before a refused record is in its topic.
func TestRefusedNowhere(t *testing.T) {
	b := newBench(t)
	b.policy = strings.Replace(b.policy, "from: oldest", "from: oldest, on_refused: { topic: missing }", 1)
	records := values("a", strings.Repeat("x", 100<<10+1), "b")
	records[1].Timestamp = time.Now().Add(-48 * time.Hour) // it has lain there for long
	b.produce("orders.raw", 0, records...)
	b.start()
	if s := b.untilState(Failing); !strings.Contains(s.LastError, "write refused records to topic missing: UNKNOWN_TOPIC_OR_PARTITION") {
		t.Errorf("last error %q", s.LastError)
	}
	if got := b.bodies(); len(got) > 0 {
		t.Errorf("the stream has %q already", got)
	}
	if _, err := b.admin.CreateTopic(t.Context(), 1, 1, nil, "missing"); err != nil {
		t.Fatal(err)
	}
	b.want("a", "b")
	if got := b.consume("missing", 1); len(got) != 1 {
		t.Errorf("%d records were refused, want one", len(got))
	}
}

// consume reads n records of a topic from its beginning.
func (b *bench) consume(topic string, n int) (records []*kgo.Record) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), patience)
	defer cancel()
	client := b.connect(kgo.ConsumeTopics(topic))
	for len(records) < n {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			b.t.Fatalf("read %s: %v", topic, err)
		}
		records = append(records, fetches.Records()...)
	}
	return records
}

func headersOf(r *kgo.Record) (texts []string) {
	for _, h := range r.Headers {
		texts = append(texts, h.Key+":"+string(h.Value))
	}
	return texts
}
