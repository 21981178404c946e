package kafka

import (
	"math/bits"
	"sync"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Sizes of what is lent, as powers of two. What is smaller is not worth it; what is larger
// would be held for one odd batch.
const (
	leastBytes, mostBytes     = 12, 22
	leastRecords, mostRecords = 4, 14
)

// pool lends a client the memory of batches of records, which comes back when all records
// of one are stored. Memory that is new costs more than all that is done with a record.
type pool struct {
	bytes   [mostBytes + 1]sync.Pool
	records [mostRecords + 1]sync.Pool
	inflate atomic.Int64 // 16 times what a byte of the last compressed batch became
}

// OnFetchBatchRead implements [kgo.HookFetchBatchRead].
func (p *pool) OnFetchBatchRead(_ kgo.BrokerMetadata, _ string, _ int32, m kgo.FetchBatchMetrics) {
	if m.CompressionType != 0 && m.CompressedBytes > 0 {
		p.inflate.Store(int64(m.UncompressedBytes)*16/int64(m.CompressedBytes) + 1)
	}
}

// GetDecompressBytes implements [kgo.PoolDecompressBytes]. What turns out too small the
// client makes anew: it takes no more than about twice what the batch needs.
func (p *pool) GetDecompressBytes(compressed []byte, _ kgo.CompressionCodecType) []byte {
	n := int(int64(len(compressed)) * p.inflate.Load() / 16)
	return lend[byte](p.bytes[:], leastBytes, n+n/8)
}

// PutDecompressBytes implements [kgo.PoolDecompressBytes].
func (p *pool) PutDecompressBytes(b []byte) { giveBack(p.bytes[:], leastBytes, b) }

// GetRecords implements [kgo.PoolRecords].
func (p *pool) GetRecords(n int) []kgo.Record {
	return lend[kgo.Record](p.records[:], leastRecords, n)
}

// PutRecords implements [kgo.PoolRecords].
func (p *pool) PutRecords(r []kgo.Record) { giveBack(p.records[:], leastRecords, r) }

// lend returns an empty slice for n; nil where the client is to make its own.
func lend[T any](pools []sync.Pool, least, n int) []T {
	size := bits.Len(uint(max(n, 1) - 1))
	if size < least || size >= len(pools) {
		return nil
	}
	if s, ok := pools[size].Get().(*[]T); ok {
		return *s
	}
	return make([]T, 0, 1<<size)
}

func giveBack[T any](pools []sync.Pool, least int, s []T) {
	size := bits.Len(uint(cap(s))) - 1
	if size >= least && size < len(pools) {
		s = s[:0]
		pools[size].Put(&s)
	}
}
