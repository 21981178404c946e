package kafka

import (
	"context"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/plain"
)

// dialled counts how often a cluster is dialled.
func (b *bench) dialled(more ...kgo.Opt) (n *atomic.Int64) {
	n = new(atomic.Int64)
	b.options = append(more, kgo.Dialer(func(ctx context.Context, network, host string) (net.Conn, error) {
		n.Add(1)
		return (&net.Dialer{}).DialContext(ctx, network, host)
	}))
	return n
}

// wantCalm watches for a while that something is not done in a hot loop, and that the log
// has one line of it.
func (b *bench) wantCalm(n *atomic.Int64, line string) {
	b.t.Helper()
	before, lines := n.Load(), strings.Count(b.logged(), "source fails")
	const while = time.Second
	<-time.After(while) // the longer it takes, the more would be done
	if got := n.Load() - before; got > 40 {
		b.t.Errorf("%d attempts in about %v", got, while)
	}
	if now := strings.Count(b.logged(), "source fails"); now-lines > 2 || strings.Count(b.logged(), line) == 0 {
		b.t.Errorf("the log has %d lines of failures after %d, want one with %q:\n%s", now, lines, line, b.logged())
	}
}

func TestUnknownBroker(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n := b.dialled()
	b.policy = strings.Replace(b.policy, "BROKER", `"127.0.0.1:1"`, 1)
	b.start()
	if s := b.untilState(Failing); !strings.Contains(s.LastError, "127.0.0.1:1") || !strings.Contains(s.LastError, "refused") {
		t.Errorf("last error %q, want the broker and that it refused", s.LastError)
	}
	b.wantCalm(n, "127.0.0.1:1")
}

// TestWrongCredentials: brokers say so, or just hang up.
func TestWrongCredentials(t *testing.T) {
	for name, says := range map[string]string{"told": "SASL_AUTHENTICATION_FAILED", "hung up on": "or a password wrong?"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, kfake.EnableSASL(), kfake.Superuser("PLAIN", "forebay", "secret"))
			if name == "told" {
				b.cluster.ControlKey(kmsg.SASLAuthenticate.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
					b.cluster.KeepControl()
					resp := req.ResponseKind().(*kmsg.SASLAuthenticateResponse)
					resp.ErrorCode = kerr.SaslAuthenticationFailed.Code
					return resp, nil, true
				})
			}
			n := b.dialled(kgo.SASL(plain.Auth{User: "forebay", Pass: "hunter2"}.AsMechanism()))
			b.start()
			if s := b.untilState(Failing); !strings.Contains(s.LastError, says) {
				t.Errorf("last error %q, want %q", s.LastError, says)
			}
			b.wantCalm(n, says)
			if strings.Contains(b.logged(), "hunter2") {
				t.Errorf("the password is in the log:\n%s", b.logged())
			}
		})
	}
}

// TestMissingTopic: it is said, not made, and read once it is there.
func TestMissingTopic(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n := new(atomic.Int64)
	b.cluster.ControlKey(kmsg.Metadata.Int16(), func(kmsg.Request) (kmsg.Response, error, bool) {
		b.cluster.KeepControl()
		n.Add(1)
		return nil, nil, false
	})
	b.policy = strings.ReplaceAll(b.policy, "orders.raw", "to-come")
	b.start()
	if s := b.untilState(Failing); !strings.Contains(s.LastError, "topic to-come is not there") {
		t.Errorf("last error %q", s.LastError)
	}
	b.wantCalm(n, "topic to-come is not there")
	if _, err := b.admin.CreateTopic(t.Context(), 1, 1, nil, "to-come"); err != nil {
		t.Fatal(err)
	}
	b.produce("to-come", 0, values("a")...)
	b.want("a")
	if s := b.untilState(Running); s.LastError != "" {
		t.Errorf("last error %q when it runs", s.LastError)
	}
}

// bomb is a batch that holds more than a source inflates, in a few kilobytes.
func (b *bench) bomb() {
	b.t.Helper()
	client := b.connect(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchMaxBytes(2*inflatedMax),
		kgo.MaxBufferedBytes(4*inflatedMax), kgo.ProducerBatchCompression(kgo.ZstdCompression()), kgo.ProducerLinger(100*time.Millisecond), kgo.BrokerMaxWriteBytes(1<<30))
	large := make([]byte, inflatedMax/2+1)
	records := []*kgo.Record{{Topic: "orders.raw", Value: large}, {Topic: "orders.raw", Value: large}}
	if err := client.ProduceSync(b.t.Context(), records...).FirstErr(); err != nil {
		b.t.Fatal(err)
	}
}

// TestBomb: a batch that inflates beyond all bounds takes no memory, stops its partition
// alone, and is gone past where the policy has a topic for what is refused.
func TestBomb(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.produce("orders.raw", 0, values("a")...)
	b.bomb()
	b.produce("orders.raw", 0, values("b")...)
	b.produce("orders.raw", 1, values("c")...)
	b.start()
	b.want("a", "c")
	if s := b.untilState(Stopped); s.Partitions[0].Next != 1 || !strings.Contains(s.Partitions[0].Stopped, "the compressed batch up to offset 2 holds more than 67108864 bytes") {
		t.Errorf("status = %+v", s)
	}
	b.produce("orders.raw", 1, values("d")...)
	b.want("a", "c", "d")
	b.policy = strings.Replace(b.policy, "from: oldest", "from: oldest, on_refused: { topic: more }", 1)
	b.sources.Apply(b.parse(b.policy))
	b.want("a", "c", "d", "b")
	if got := headersOf(b.consume("more", 1)[0]); !strings.Contains(strings.Join(got, " "), "forebay-source:orders.raw/0/1 forebay-reason:batch-too-large") {
		t.Errorf("headers of what was refused: %q", got)
	}
}

// TestLeaderMoves: partitions change brokers while they are read.
func TestLeaderMoves(t *testing.T) {
	t.Parallel()
	b := newBench(t, kfake.NumBrokers(3))
	b.start()
	var want []string
	for i := range 30 {
		for n := range int32(2) {
			if err := b.cluster.MoveTopicPartition("orders.raw", n, int32(i+int(n))%3); err != nil {
				t.Fatal(err)
			}
			records := numbered(1000*i+100*int(n), 10)
			for _, r := range records {
				want = append(want, string(r.Value))
			}
			b.produce("orders.raw", n, records...)
		}
	}
	b.want(want...)
}

// TestOutcast: a member that the group takes for dead comes back, with nothing lost or twice.
func TestOutcast(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.produce("orders.raw", 0, values("a")...)
	b.start()
	b.want("a")
	for range 3 {
		b.until(func() bool {
			groups, err := b.admin.DescribeGroups(t.Context(), "forebay")
			return err == nil && groups["forebay"].State == "Stable"
		}, "the source is in its group")
		b.cast()
		b.produce("orders.raw", 0, values("b")...)
	}
	b.want("a", "b", "b", "b")
}

// TestGroupRefuses: what a group refused once does not stick to the source that it takes then.
func TestGroupRefuses(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.cluster.ControlKey(kmsg.JoinGroup.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
		resp := req.ResponseKind().(*kmsg.JoinGroupResponse)
		resp.ErrorCode = kerr.GroupMaxSizeReached.Code
		return resp, nil, true
	})
	b.produce("orders.raw", 0, values("a")...)
	b.start()
	b.want("a")
	if s := b.untilState(Running); s.LastError != "" || !strings.Contains(b.logged(), kerr.GroupMaxSizeReached.Message) {
		t.Errorf("last error %q; the log:\n%s", s.LastError, b.logged())
	}
}

// TestReload: sources come, go and change without losing their place.
func TestReload(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	second := `  - { name: second, kafka: { brokers: [BROKER], topics: [more], group: forebay2 }, stream: orders, from: oldest }
`
	b.policy = strings.Replace(b.policy, "sources: [{", "sources:\n  - {", 1)
	b.policy = strings.Replace(b.policy, "from: oldest }]", "from: oldest }", 1)
	b.produce("orders.raw", 0, values("a")...)
	b.produce("more", 0, values("m")...)
	b.start()
	b.want("a")
	b.sources.Apply(b.parse(b.policy + second))
	b.want("a", "m")

	changed := strings.Replace(b.policy, "/v1/orders", "/v2/orders", 1)
	b.sources.Apply(b.parse(changed + second))
	b.produce("orders.raw", 0, values("b")...)
	b.want("a", "m", "b")
	if m := b.taken()[2]; m.Target != "/v2/orders" && m.Target != "/v1/orders" {
		t.Errorf("target %s", m.Target)
	}

	b.sources.Apply(b.parse(changed))
	b.until(func() bool { return len(b.sources.Status()) == 1 }, "the second source is gone")
	b.until(func() bool {
		marks, err := b.buf.Bookmarks(context.Background(), "second")
		return err == nil && len(marks) == 0
	}, "so are its places")
	b.until(func() bool {
		groups, err := b.admin.DescribeGroups(t.Context(), "forebay2")
		return err == nil && len(groups["forebay2"].Members) == 0
	}, "and its member")
	b.produce("more", 0, values("n")...)
	b.produce("orders.raw", 0, values("c")...)
	b.want("a", "m", "b", "c")

	b.sources.Apply(b.parse(strings.Split(changed, "sources:")[0] + "routes: [{ name: r, match: {}, mode: buffer, stream: orders }]\n"))
	b.until(func() bool { return len(b.sources.Status()) == 0 }, "no source is left")
}
