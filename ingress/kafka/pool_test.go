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

// TestPool: what was given back is lent again to those who need about so much, and given up
// when nobody has needed it from one look to the next.
func TestPool(t *testing.T) {
	for n, want := range map[int]int{0: 0, 1000: 0, leastBytes: leastBytes, 5000: 5000, mostBytes + 1: 0} {
		if got := cap(newPool().bytes.lend(n)); got != want {
			t.Errorf("for %d bytes there are %d, want %d", n, got, want)
		}
	}
	p := newPool()
	p.OnFetchBatchRead(kgo.BrokerMetadata{}, "t", 0, kgo.FetchBatchMetrics{CompressionType: 2, CompressedBytes: 1000, UncompressedBytes: 6000})
	b := p.GetDecompressBytes(make([]byte, 1000), kgo.CodecSnappy)
	if cap(b) < 6000 || cap(b) > 7000 {
		t.Errorf("for a batch like the last there are %d bytes, want a little more than 6000", cap(b))
	}
	address := func(b []byte) *byte { return &b[:1][0] }
	p.PutDecompressBytes(b)
	if again := p.bytes.lend(5000); address(again) != address(b) {
		t.Error("what was given back is not lent again")
	}
	p.PutDecompressBytes(b)
	if other := p.bytes.lend(100_000); cap(other) != 100_000 {
		t.Errorf("for 100000 bytes there are %d", cap(other))
	}
}

// TestPoolIsBounded: so much waits to be lent, and nothing of it when it is idle.
func TestPoolIsBounded(t *testing.T) {
	p := newPool()
	var lent [][]byte
	for range 2 * spareBytes / mostBytes {
		lent = append(lent, p.bytes.lend(mostBytes))
	}
	for _, b := range lent {
		p.PutDecompressBytes(b)
	}
	if n, most := len(p.bytes.free), spareBytes/mostBytes; n != most || p.bytes.size != spareBytes {
		t.Errorf("%d slices of %d bytes wait, want %d of %d", n, p.bytes.size, most, spareBytes)
	}
	p.trim() // they were lent since the last
	p.PutDecompressBytes(p.bytes.lend(mostBytes))
	p.trim()
	if n := len(p.bytes.free); n != 1 {
		t.Errorf("%d slices wait, where 1 was needed at a time", n)
	}
	p.trim()
	if n := len(p.bytes.free); n != 0 || p.bytes.size != 0 {
		t.Errorf("%d slices of %d bytes wait when all is idle", n, p.bytes.size)
	}
}
