package limiter

import (
	"hash/maphash"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxShards = 16
	// Fewer keys than that to a shard, and how they happen to spread would show.
	leastShardKeys = 4096
)

// Never is the wait for what does not come.
const Never = time.Duration(math.MaxInt64)

// Decision is what a Keyed says to one request.
type Decision struct {
	OK   bool
	Left int           // whole tokens that are left; MaxInt where the rate is Unlimited
	Wait time.Duration // until there is one, where none is left and nobody else takes it; Never at rate 0

	hash   uint64
	shared bool
}

// Keyed is a table of token buckets by key, which are full when their key is
// first seen. It holds at most so many keys: to make room it forgets full
// buckets, which loses nothing, and where none is full new keys share one
// bucket until there is room. Full ones are looked for at most once in as many
// microseconds as a shard has keys, so that floods of new keys cost little.
//
// A key is known by a 64-bit hash with a secret of the table: it takes 30 bytes,
// whatever its length, in a table at its bound. All methods take the time, which
// never runs backwards inside a bucket, are safe for concurrent use and do not
// block.
type Keyed struct {
	seed   maphash.Seed
	began  time.Time
	shards []*shard // 2^n of them
	limit  atomic.Pointer[Limit]

	mu   sync.Mutex
	pace pace // guarded by mu
	rest slot // the bucket that new keys share; guarded by mu
}

// NewKeyed returns a table without keys. It holds maxKeys of them, at least 1.
func NewKeyed(now time.Time, limit Limit, maxKeys int) *Keyed {
	n := 1
	for n < maxShards && 2*n*leastShardKeys <= maxKeys {
		n *= 2
	}
	k := &Keyed{seed: maphash.MakeSeed(), began: now, shards: make([]*shard, n)}
	for i := range k.shards {
		k.shards[i] = &shard{}
	}
	k.rest.tokens = math.Inf(1) // cut down to the burst
	k.Set(now, limit, maxKeys)
	return k
}

// Take takes a token of the key's bucket, if it has one.
func (k *Keyed) Take(now time.Time, key []byte) Decision {
	switch k.limit.Load().Rate {
	case Unlimited:
		return Decision{OK: true, Left: math.MaxInt}
	case 0:
		return Decision{Wait: Never}
	}
	hash := max(1, maphash.Bytes(k.seed, key)) // 0 is an empty slot
	at := k.since(now)
	if d, ok := k.shard(hash).take(at, hash); ok {
		return d
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	d := k.rest.take(at, k.pace)
	d.shared = true
	return d
}

// Return puts back the token of a Take that was OK and led to nothing.
func (k *Keyed) Return(now time.Time, d Decision) {
	if d.shared {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.rest.give(k.since(now), k.pace)
		return
	}
	if d.hash != 0 {
		k.shard(d.hash).give(k.since(now), d.hash)
	}
}

// Set changes rate, burst and the number of keys from now on. Tokens that are
// there stay, up to the new burst; a rate of 0 leaves none. With a lower
// number no bucket is lost: there are no new keys until enough are full. It
// looks at every key.
func (k *Keyed) Set(now time.Time, limit Limit, maxKeys int) {
	limit = limit.normalized()
	p := pace{perNano: float64(limit.Rate) / float64(time.Second), burst: float64(limit.Burst)}
	at := k.since(now)
	k.limit.Store(&limit)
	for _, s := range k.shards {
		s.set(at, p, max(1, maxKeys/len(k.shards)))
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.rest.change(at, k.pace, p)
	k.pace = p
}

// Keys returns how many keys are known, and how many were forgotten to make
// room for others.
func (k *Keyed) Keys() (known int, evicted uint64) {
	for _, s := range k.shards {
		s.mu.Lock()
		known += s.used
		evicted += s.evicted
		s.mu.Unlock()
	}
	return known, evicted
}

// since is the time that buckets count in: nanoseconds.
func (k *Keyed) since(now time.Time) int64 { return int64(now.Sub(k.began)) }

// shard is by the low bits of a hash; its place there is by the high ones.
func (k *Keyed) shard(hash uint64) *shard { return k.shards[hash&uint64(len(k.shards)-1)] }

// pace is how a bucket fills.
type pace struct{ perNano, burst float64 }

// slot is a key's bucket.
type slot struct {
	hash   uint64  // 0: there is none
	tokens float64 // at last
	last   int64
}

// enough is a token, less what rounding may have cost it. What is taken is a
// whole one, so that this adds nothing up.
const enough = 1 - 1e-9

func (b *slot) advance(at int64, p pace) {
	if at > b.last {
		b.tokens = min(b.tokens+float64(at-b.last)*p.perNano, p.burst)
		b.last = at
	}
}

func (b *slot) take(at int64, p pace) Decision {
	b.advance(at, p)
	d := Decision{OK: b.tokens >= enough, hash: b.hash}
	if d.OK {
		b.tokens--
	}
	if d.Left = int(b.tokens + (1 - enough)); d.Left > 0 {
		return d
	}
	d.Wait = Never
	if wait := math.Ceil((1 - b.tokens) / p.perNano); wait < math.MaxInt64 {
		d.Wait = time.Duration(wait)
	}
	return d
}

func (b *slot) give(at int64, p pace) {
	b.advance(at, p)
	b.tokens = min(b.tokens+1, p.burst)
}

// change makes the bucket go on at another pace; a rate of 0 leaves no token.
func (b *slot) change(at int64, from, to pace) {
	b.advance(at, from)
	b.tokens = min(b.tokens, to.burst)
	if to.perNano == 0 {
		b.tokens = 0
	}
}

// full reports whether the bucket holds its burst.
func (b *slot) full(at int64, p pace) bool {
	return b.tokens+float64(max(0, at-b.last))*p.perNano >= p.burst
}
