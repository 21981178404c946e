package kafka

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kgo"
)

// What is lent is of so many bytes or records: what is less is not worth it, what is more
// would be held for one odd batch. The most is also what waits to be lent again.
const (
	leastBytes, mostBytes     = 4 << 10, 4 << 20
	leastRecords, mostRecords = 16, 16 << 10
	spareBytes, spareRecords  = 16 << 20, 64 << 10
)

// pool lends a client the memory of batches of records, which comes back when all records
// of one are stored. Memory that is new costs more than all that is done with a record.
type pool struct {
	bytes   spares[byte]
	records spares[kgo.Record]
	inflate atomic.Int64 // 16 times what a byte of the last compressed batch became
}

func newPool() *pool {
	return &pool{
		bytes:   spares[byte]{least: leastBytes, most: mostBytes, total: spareBytes},
		records: spares[kgo.Record]{least: leastRecords, most: mostRecords, total: spareRecords},
	}
}

// trim gives up what nobody has needed since the last time: all, once nothing comes.
func (p *pool) trim() {
	p.bytes.trim()
	p.records.trim()
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
	return p.bytes.lend(n + n/16)
}

// PutDecompressBytes implements [kgo.PoolDecompressBytes].
func (p *pool) PutDecompressBytes(b []byte) { p.bytes.giveBack(b) }

// GetRecords implements [kgo.PoolRecords].
func (p *pool) GetRecords(n int) []kgo.Record { return p.records.lend(n) }

// PutRecords implements [kgo.PoolRecords].
func (p *pool) PutRecords(r []kgo.Record) { p.records.giveBack(r) }

// spares are slices of which each can be lent to one at a time. What the collector may take
// at any time, as it does that of a [sync.Pool], would be made anew many times a second.
type spares[T any] struct {
	least, most, total int // elements of one, and of all that wait

	mu   sync.Mutex
	free [][]T // the one that was given back last, which is near the processor, at the end
	size int   // of free, in elements
	idle int   // the fewest in free since the last trim
}

// lookAt is how many spares are looked at for one that fits.
const lookAt = 8

// lend returns an empty slice for n; nil where the client is to make its own.
func (s *spares[T]) lend(n int) []T {
	if n < s.least || n > s.most {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := len(s.free) - 1; i >= max(0, len(s.free)-lookAt); i-- {
		if b := s.free[i]; cap(b) >= n && cap(b) <= 2*n {
			s.drop(i)
			return b
		}
	}
	return make([]T, 0, n)
}

// drop takes the ith out of free. The caller holds mu.
func (s *spares[T]) drop(i int) {
	s.size -= cap(s.free[i])
	s.free = slices.Delete(s.free, i, i+1)
	s.idle = min(s.idle, len(s.free))
}

func (s *spares[T]) giveBack(b []T) {
	if cap(b) < s.least || cap(b) > 2*s.most {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free = append(s.free, b[:0])
	for s.size += cap(b); s.size > s.total; {
		s.drop(0)
	}
}

// trim drops as many as nobody has needed since the last time.
func (s *spares[T]) trim() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for range s.idle {
		s.drop(0)
	}
	s.idle = len(s.free)
}
