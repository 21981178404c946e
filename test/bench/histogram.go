package main

import (
	"math/bits"
	"time"
)

const subBuckets = 32 // of each power of two: values are exact to 3 %

// A histogram counts durations from 1 µs to over an hour in fixed memory.
type histogram struct {
	n       uint64
	buckets [32 * subBuckets]uint32
}

func bucket(d time.Duration) int {
	us := uint64(max(d.Microseconds(), 1))
	if us < subBuckets {
		return int(us)
	}
	exp := bits.Len64(us) - 6 // us>>exp lies in 32 … 63
	i := (exp+1)*subBuckets + int(us>>exp) - subBuckets
	return min(i, 32*subBuckets-1)
}

// upper is the largest duration that falls into bucket i.
func upper(i int) time.Duration {
	if i < subBuckets {
		return time.Duration(i) * time.Microsecond
	}
	exp := i/subBuckets - 1
	us := (uint64(i%subBuckets)+subBuckets+1)<<exp - 1
	return time.Duration(us) * time.Microsecond
}

func (h *histogram) record(d time.Duration) {
	h.n++
	h.buckets[bucket(d)]++
}

func (h *histogram) add(other *histogram) {
	h.n += other.n
	for i, c := range other.buckets {
		h.buckets[i] += c
	}
}

// quantile returns the duration that a share q of all did not exceed.
func (h *histogram) quantile(q float64) time.Duration {
	want := uint64(q * float64(h.n))
	seen := uint64(0)
	for i, c := range h.buckets {
		seen += uint64(c)
		if seen > want || seen == h.n && seen > 0 {
			return upper(i)
		}
	}
	return 0
}
