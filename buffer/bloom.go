package buffer

import (
	"encoding/binary"
	"math/bits"
)

// bloom is a Bloom filter over hashes, in blocks of a cache line: all probes of a
// hash fall into one, so that asking the filters of many files costs one miss each.
type bloom []byte

const (
	bloomBlock = 64 // bytes
	bloomSlice = 9  // bits of a hash that say one bit of a block
)

// bloomLen is the length in bytes of a filter for so many hashes at so many bits each.
func bloomLen(hashes, bits int) int {
	return (hashes*bits/8 + bloomBlock) / bloomBlock * bloomBlock
}

// block is where the probes of a hash fall, by its one half.
func (f bloom) block(a uint64) bloom {
	n, _ := bits.Mul64(a, uint64(len(f)/bloomBlock))
	return f[n*bloomBlock:][:bloomBlock]
}

// add adds a hash of two halves, with at most seven probes.
func (f bloom) add(a, b uint64, probes int) { f.block(a).set(b, probes) }

// set adds a hash to a block, by its other half.
func (f bloom) set(b uint64, probes int) {
	for range probes {
		f[b>>3%bloomBlock] |= 1 << (b & 7)
		b >>= bloomSlice
	}
}

// has asks all probes before it decides: half of the first ones say no, so that a
// branch on them would be guessed wrongly, and the misses of one filter after the
// other would not overlap.
func (f bloom) has(a, b uint64, probes int) bool {
	f = f.block(a)
	all := byte(1)
	for range probes {
		all &= f[b>>3%bloomBlock] >> (b & 7)
		b >>= bloomSlice
	}
	return all&1 != 0
}

// halves are those of a key that is a hash itself.
func halves(key [16]byte) (a, b uint64) {
	return binary.LittleEndian.Uint64(key[:]), binary.LittleEndian.Uint64(key[8:])
}

// spread makes the second half of a hash that has but one.
func spread(hash uint64) uint64 { return hash * 0x9e3779b97f4a7c15 }
