package limiter_test

import (
	"fmt"
	"math"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"forebay/limiter"
)

func TestKeyedStartsFullForEachKey(t *testing.T) {
	k := limiter.NewKeyed(start(), limiter.Limit{Rate: 10, Burst: 2}, 100)
	for _, key := range []string{"a", "b", ""} {
		for i, want := range []limiter.Decision{{OK: true, Left: 1}, {OK: true, Wait: ms(100)}, {Wait: ms(100)}} {
			got := k.Take(start(), []byte(key))
			if got.OK != want.OK || got.Left != want.Left || got.Wait != want.Wait {
				t.Errorf("take %d of key %q = %+v, want %+v", i, key, got, want)
			}
		}
	}
	if known, _ := k.Keys(); known != 3 {
		t.Errorf("%d keys known, want 3", known)
	}
}

func TestKeyedWaitIsTrue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := rapid.Float64Range(1e-3, 1e6).Draw(t, "rate")
		burst := rapid.IntRange(1, 1000).Draw(t, "burst")
		k := limiter.NewKeyed(start(), limiter.Limit{Rate: limiter.Rate(rate), Burst: burst}, 10)
		now := start()
		for range rapid.IntRange(1, 50).Draw(t, "takes") {
			d := k.Take(now, []byte("key"))
			for range d.Left {
				if !k.Take(now, []byte("key")).OK {
					t.Fatalf("%d tokens were said to be left, and are not", d.Left)
				}
			}
			if d = k.Take(now, []byte("key")); d.OK {
				t.Fatal("a token more than was said to be left")
			}
			if early := now.Add(d.Wait - time.Duration(10+1e-6*float64(d.Wait))); early.After(now) && k.Take(early, []byte("key")).OK {
				t.Fatalf("a token before the wait of %v", d.Wait)
			}
			now = now.Add(d.Wait + time.Duration(rapid.Int64Range(0, int64(time.Second)).Draw(t, "more")))
			if d := k.Take(now, []byte("key")); !d.OK {
				t.Fatalf("no token after the wait: %+v", d)
			}
			k.Take(now, []byte("key"))
		}
	})
}

// Whatever is called, each key has what a bucket of its own has; only where as
// many buckets as there may be are not full, new keys have one between them.
func TestKeyedAgainstModel(t *testing.T) {
	limit := limiter.Limit{Rate: 9.7, Burst: 4} // no whole number of anything
	rapid.Check(t, func(t *rapid.T) {
		most := rapid.IntRange(1, 30).Draw(t, "max keys")
		k := limiter.NewKeyed(start(), limit, most)
		own := map[string]*limiter.Bucket{}
		shared := limiter.NewFullBucket(start(), limit)
		now := start()
		for i := range rapid.IntRange(1, 400).Draw(t, "operations") {
			now = now.Add(time.Duration(rapid.Int64Range(int64(50*time.Microsecond), int64(30*time.Millisecond)).Draw(t, "step")))
			drained := 0
			for name, b := range own {
				if b.Level(now) >= float64(limit.Burst) {
					delete(own, name)
				} else {
					drained++
				}
			}
			key := strconv.Itoa(rapid.IntRange(0, 40).Draw(t, "key"))
			b := own[key]
			switch {
			case b == nil && drained < most:
				b = limiter.NewFullBucket(now, limit)
				own[key] = b
			case b == nil:
				b = shared
			}
			want, got := b.Take(now, 1), k.Take(now, []byte(key))
			if got.OK != want || got.Left != max(0, int(b.Level(now))) {
				t.Fatalf("operation %d, key %s: %+v, want %v and %v left", i, key, got, want, b.Level(now))
			}
			if got.OK && rapid.IntRange(0, 3).Draw(t, "return") == 0 {
				b.Return(now, 1)
				k.Return(now, got)
			}
			if known, _ := k.Keys(); known > most {
				t.Fatalf("operation %d: %d keys known, at most %d may be", i, known, most)
			}
		}
	})
}

// Time that runs backwards is never credited twice.
func TestKeyedClampsTime(t *testing.T) {
	k := limiter.NewKeyed(start(), limiter.Limit{Rate: 10, Burst: 10}, 10)
	take := func(now time.Time) bool { return k.Take(now, nil).OK }
	later := start().Add(time.Second)
	take(later)
	if !take(start()) {
		t.Error("no token for an earlier time, of a bucket that has some")
	}
	for range 8 {
		take(later)
	}
	if take(start()) || take(later) {
		t.Error("a token for time that was spent")
	}
}

func TestKeyedForgetsFullBucketsAlone(t *testing.T) {
	k := limiter.NewKeyed(start(), limiter.Limit{Rate: 1, Burst: 2}, 2)
	take := func(now time.Time, key string) bool { return k.Take(now, []byte(key)).OK }
	take(start(), "a") // full again in 1 s
	take(start(), "b")
	take(start(), "b") // full again in 2 s
	if !take(start(), "c") || !take(start(), "d") || take(start(), "e") {
		t.Error("new keys do not share one bucket of two tokens while none is full")
	}
	later := start().Add(1500 * time.Millisecond)
	for i, want := range []bool{true, true, false} {
		if take(later, "c") != want {
			t.Errorf("take %d of a new key for which there is room: %t, want a bucket of its own", i, !want)
		}
	}
	if !take(later, "b") || take(later, "b") {
		t.Error("a bucket that is not full was forgotten, or gave too much")
	}
	if known, evicted := k.Keys(); known != 2 || evicted != 1 {
		t.Errorf("%d keys known, %d evicted, want 2 and 1", known, evicted)
	}
}

func TestKeyedSet(t *testing.T) {
	tests := []struct {
		name     string
		from, to limiter.Limit
		old, new int // tokens of a key that had 5, and of a new one
	}{
		{"a lower burst clamps", limiter.Limit{Rate: 1, Burst: 10}, limiter.Limit{Rate: 1, Burst: 3}, 3, 3},
		{"a higher burst adds nothing", limiter.Limit{Rate: 1, Burst: 10}, limiter.Limit{Rate: 1, Burst: 20}, 5, 20},
		{"rate 0 leaves none", limiter.Limit{Rate: 1, Burst: 10}, limiter.Limit{Rate: 0, Burst: 10}, 0, 0},
		{"from rate 0", limiter.Limit{Rate: 0, Burst: 10}, limiter.Limit{Rate: 1, Burst: 10}, 10, 10},
		{"from unlimited", limiter.Limit{Rate: limiter.Unlimited, Burst: 1}, limiter.Limit{Rate: 1, Burst: 10}, 10, 10},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k := limiter.NewKeyed(start(), tt.from, 100)
			for range 5 {
				k.Take(start(), []byte("old"))
			}
			k.Set(start(), tt.to, 100)
			for key, want := range map[string]int{"old": tt.old, "new": tt.new} {
				got := 0
				for k.Take(start(), []byte(key)).OK {
					got++
				}
				if got != want {
					t.Errorf("key %s had %d tokens, want %d", key, got, want)
				}
			}
		})
	}
	k := limiter.NewKeyed(start(), limiter.Limit{Rate: limiter.Unlimited, Burst: 1}, 100)
	if d := k.Take(start(), nil); !d.OK || d.Left != math.MaxInt {
		t.Errorf("unlimited: %+v", d)
	}
	k.Set(start(), limiter.Limit{}, 100)
	if d := k.Take(start(), nil); d.OK || d.Wait != limiter.Never {
		t.Errorf("rate 0: %+v", d)
	}
}

// With fewer keys none loses its bucket; with more there is room.
func TestKeyedSetMaxKeys(t *testing.T) {
	limit := limiter.Limit{Rate: 1, Burst: 1}
	k := limiter.NewKeyed(start(), limit, 4)
	for i := range 4 {
		k.Take(start(), []byte{byte(i)})
	}
	k.Set(start(), limit, 2)
	for i := range 4 {
		if k.Take(start(), []byte{byte(i)}).OK {
			t.Errorf("key %d has a token again", i)
		}
	}
	later := start().Add(2 * time.Second)
	for i := range 10 {
		k.Take(later, []byte{byte(10 + i)})
	}
	if known, _ := k.Keys(); known != 2 {
		t.Errorf("%d keys known after all were full, want 2", known)
	}
	k.Set(later, limit, 1000)
	for i := range 200 {
		if !k.Take(later, []byte{byte(i), 1}).OK {
			t.Fatalf("key %d of many more has no bucket of its own", i)
		}
	}
}

// A million keys stay inside what their bound is said to take, and each of them
// is known again.
func TestKeyedMemory(t *testing.T) {
	const keys, bytesPerKey = 1_000_000, 32
	before := heap()
	k := limiter.NewKeyed(start(), limiter.Limit{Rate: 1e-3, Burst: 1}, keys)
	var key [8]byte
	number := func(i int) []byte {
		for b := range key {
			key[b] = byte(i >> (8 * b))
		}
		return key[:]
	}
	for i := range keys * 6 / 5 {
		k.Take(start(), number(i))
	}
	if got := heap() - before; got > keys*bytesPerKey {
		t.Errorf("%d keys take %d bytes each, want at most %d", keys, got/keys, bytesPerKey)
	}
	known, evicted := k.Keys()
	if known > keys || known < keys*99/100 || evicted != 0 {
		t.Errorf("%d keys known and %d evicted of at most %d", known, evicted, keys)
	}
	forgotten := 0
	for i := range keys / 10 {
		if k.Take(start(), number(i)).OK {
			forgotten++
		}
	}
	if forgotten > 0 {
		t.Errorf("%d keys had a token again", forgotten)
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// Together, callers get no more than the buckets hold.
func TestKeyedConcurrently(t *testing.T) {
	k := limiter.NewKeyed(start(), limiter.Limit{Rate: 1e-6, Burst: 100}, 100_000)
	var group sync.WaitGroup
	var passed [8]int
	for g := range passed {
		group.Go(func() {
			for i := range 4000 {
				d := k.Take(start(), fmt.Append(nil, i%20))
				if d.OK && i%3 == 0 {
					k.Return(start(), d)
				} else if d.OK {
					passed[g]++
				}
			}
		})
	}
	group.Wait()
	sum := 0
	for _, n := range passed {
		sum += n
	}
	if sum > 20*100 {
		t.Errorf("%d passed, the buckets held %d", sum, 20*100)
	}
}

func TestKeyedAllocatesNothing(t *testing.T) {
	k := limiter.NewKeyed(start(), limiter.Limit{Rate: 1e6, Burst: 10}, 100_000)
	now, key := start(), []byte("customer-4711")
	if got := testing.AllocsPerRun(100, func() {
		now = now.Add(time.Microsecond)
		k.Return(now, k.Take(now, key))
	}); got != 0 {
		t.Errorf("%v allocations for a known key", got)
	}
}
