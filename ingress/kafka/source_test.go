package kafka

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"forebay/buffer"
)

func TestReads(t *testing.T) {
	b := newBench(t)
	b.produce("orders.raw", 0, values("a", "b")...)
	b.produce("orders.raw", 1, values("c")...)
	b.start()
	b.want("a", "b", "c")
	b.produce("orders.raw", 1, values("d")...)
	b.want("a", "b", "c", "d")
	var sources []string
	for _, m := range b.taken() {
		if m.Method != "POST" || m.Target != "/v1/orders" {
			t.Errorf("message %s %s, want POST /v1/orders", m.Method, m.Target)
		}
		sources = append(sources, field(m, buffer.SourceField)+"="+string(m.Body))
	}
	slices.Sort(sources)
	if diff := cmp.Diff([]string{"orders.raw/0/0=a", "orders.raw/0/1=b", "orders.raw/1/0=c", "orders.raw/1/1=d"}, sources); diff != "" {
		t.Errorf("Forebay-Source (-want +got):\n%s", diff)
	}
	s := b.untilState(Running)
	b.until(func() bool { s = b.status(); return s.Lag == 0 && len(s.Partitions) == 2 }, "no lag")
	if s.Stored != 4 || s.LastError != "" || s.Partitions[1].Next != 2 {
		t.Errorf("status = %+v", s)
	}
}

// TestGoesOn: what was stored is not read again, whatever the group says, and what was
// not is.
func TestGoesOn(t *testing.T) {
	b := newBench(t)
	var want []string
	for life := range 4 {
		records := numbered(100*life, 30)
		for _, r := range records {
			want = append(want, string(r.Value))
		}
		b.produce("orders.raw", int32(life%2), records...)
		b.start()
		b.want(want...)
		b.stop()
		// Someone moves the group's offsets, which have no say.
		if life == 1 {
			b.deleteGroup()
		}
	}
	seen := map[string]int{}
	for _, m := range b.taken() {
		n, err := strconv.Atoi(string(m.Body))
		if part := strings.Split(field(m, buffer.SourceField), "/")[1]; err != nil || n <= seen[part] && n != 0 {
			t.Errorf("%d of partition %s came after %d", n, part, seen[part])
		} else {
			seen[part] = n
		}
	}
}

// cast throws the source out of its group.
func (b *bench) cast() {
	b.t.Helper()
	marks, err := b.buf.Bookmarks(b.t.Context(), "legacy")
	i := slices.IndexFunc(marks, func(m buffer.Bookmark) bool { return m.Part == memberPart })
	if err != nil || i < 0 {
		b.t.Fatalf("bookmarks %v, %v: the member is not among them", marks, err)
	}
	if _, err := b.admin.LeaveGroup(b.t.Context(), kadm.LeaveGroup("forebay").InstanceIDs(marks[i].At)); err != nil {
		b.t.Fatal(err)
	}
}

// deleteGroup takes away the group with its offsets; no source runs.
func (b *bench) deleteGroup() {
	b.t.Helper()
	b.cast()
	if _, err := b.admin.DeleteGroup(b.t.Context(), "forebay"); err != nil {
		b.t.Fatal(err)
	}
}

// TestFrom: where a source begins that has read nothing, and where its group was.
func TestFrom(t *testing.T) {
	noon := time.Date(2027, 11, 11, 12, 0, 0, 0, time.UTC)
	for name, tt := range map[string]struct {
		from      string
		committed int64 // -1: the group has no offset
		want      []string
	}{
		"oldest":          {"oldest", -1, []string{"old", "noon", "late", "new"}},
		"latest":          {"latest", -1, []string{"new"}},
		"a time":          {`"2027-11-11T12:00:00Z"`, -1, []string{"noon", "late", "new"}},
		"a time to come":  {`"2029-01-01T00:00:00Z"`, -1, []string{"new"}},
		"group's offsets": {"oldest", 2, []string{"late", "new"}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, kfake.SeedTopics(1, "single"))
			b.policy = strings.ReplaceAll(strings.ReplaceAll(b.policy, "from: oldest", "from: "+tt.from), "orders.raw", "single")
			records := values("old", "noon", "late")
			for i, r := range records {
				r.Timestamp = noon.Add(time.Duration(i-1) * time.Hour)
			}
			b.produce("single", 0, records...)
			if tt.committed >= 0 {
				at := kadm.Offsets{}
				at.AddOffset("single", 0, tt.committed, -1)
				if err := b.admin.CommitAllOffsets(t.Context(), "forebay", at); err != nil {
					t.Fatal(err)
				}
			}
			b.start()
			b.until(func() bool { return len(b.status().Partitions) == 1 }, "the partition is assigned")
			b.stop() // where it begins is written down before it reads
			b.produce("single", 0, values("new")...)
			b.start()
			b.want(tt.want...)
		})
	}
}

// TestMadeAgain: of a topic that was deleted and made again, nothing is skipped and nothing
// is taken for what was read before, whether or not the source runs meanwhile.
func TestMadeAgain(t *testing.T) {
	for name, running := range map[string]bool{"running": true, "stopped": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.produce("orders.raw", 0, values("a", "b", "c")...)
			b.start()
			b.want("a", "b", "c")
			if !running {
				b.stop()
			}
			if _, err := b.admin.DeleteTopic(t.Context(), "orders.raw"); err != nil {
				t.Fatal(err)
			}
			if _, err := b.admin.CreateTopic(t.Context(), 2, 1, nil, "orders.raw"); err != nil {
				t.Fatal(err)
			}
			again := b.connect(kgo.RecordPartitioner(kgo.ManualPartitioner()))
			b.client = again
			b.produce("orders.raw", 0, values("d", "e", "f", "g", "h")...)
			if !running {
				b.start()
			}
			b.want("a", "b", "c", "d", "e", "f", "g", "h")
			b.until(func() bool { return len(b.told()) > 0 }, "an event tells it")
			b.stop()
			b.start()
			b.produce("orders.raw", 0, values("i")...)
			b.want("a", "b", "c", "d", "e", "f", "g", "h", "i")
			events := b.told()
			if len(events) != 1 || !strings.Contains(events[0], "source-topic-made-again legacy: topic orders.raw was deleted and made again") {
				t.Errorf("events = %q, want one", events)
			}
			marks, err := b.buf.Bookmarks(context.Background(), "legacy")
			if err != nil || len(marks) != 3 { // two partitions, and the member
				t.Errorf("bookmarks = %v, %v; those of the old topic stay", marks, err)
			}
		})
	}
}

// TestRecordsGone: what the cluster removed before it was read is told, and the rest is read.
func TestRecordsGone(t *testing.T) {
	b := newBench(t)
	b.produce("orders.raw", 0, numbered(0, 4)...)
	b.start()
	b.want("0", "1", "2", "3")
	b.stop()
	b.produce("orders.raw", 0, numbered(4, 4)...)
	upTo := kadm.Offsets{}
	upTo.AddOffset("orders.raw", 0, 6, -1)
	if _, err := b.admin.DeleteRecords(t.Context(), upTo); err != nil {
		t.Fatal(err)
	}
	b.start()
	b.want("0", "1", "2", "3", "6", "7")
	if events := b.told(); len(events) != 1 || !strings.Contains(events[0], "2 records from offset 4 on were removed") {
		t.Errorf("events = %q", events)
	}
}
