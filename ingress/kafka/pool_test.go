package kafka

import (
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"forebay/buffer"
)

// TestMemoryOfRecords: what is stored stays as it was, though the memory of compressed
// batches is used again for the next.
func TestMemoryOfRecords(t *testing.T) {
	b := newBench(t)
	b.start()
	const batches, each = 30, 400
	text := func(i int) string { return fmt.Sprintf("%06d %s", i, strings.Repeat(string(rune('a'+i%26)), 30)) }
	for batch := range batches {
		var records []*kgo.Record
		for i := batch * each; i < (batch+1)*each; i++ {
			records = append(records, &kgo.Record{
				Key: fmt.Appendf(nil, "key-%06d", i), Value: []byte(text(i)), Headers: []kgo.RecordHeader{{Key: "N", Value: fmt.Appendf(nil, "%06d", i)}},
			})
		}
		b.produce("orders.raw", 0, records...)
	}
	var msgs []buffer.Message
	b.until(func() bool { msgs = b.taken(); return len(msgs) >= batches*each }, "all is stored")
	for i, m := range msgs {
		key, n := fmt.Sprintf("key-%06d", i), fmt.Sprintf("%06d", i)
		if string(m.Body) != text(i) || m.Key != key || field(m, buffer.SourceKeyField) != key || field(m, "N") != n {
			t.Fatalf("message %d is %q with key %q, %q and N: %s", i, m.Body, m.Key, field(m, buffer.SourceKeyField), field(m, "N"))
		}
	}
}

// TestPool: what was given back is lent again, to those who need about so much.
func TestPool(t *testing.T) {
	for n, want := range map[int]int{0: 0, 1000: 0, 5000: 8192, 8192: 8192, 8193: 16384, 5 << 20: 0} {
		if got := cap(lend[byte](new(pool).bytes[:], leastBytes, n)); got != want {
			t.Errorf("for %d bytes there are %d, want %d", n, got, want)
		}
	}
	p := new(pool)
	p.OnFetchBatchRead(kgo.BrokerMetadata{}, "t", 0, kgo.FetchBatchMetrics{CompressionType: 2, CompressedBytes: 1000, UncompressedBytes: 6000})
	if got := cap(p.GetDecompressBytes(make([]byte, 1000), kgo.CodecSnappy)); got != 8192 {
		t.Errorf("for a batch like the last there are %d bytes, want 8192", got)
	}
}
