package buffer

import "math/bits"

// keyHash hashes keys of messages with a secret of the data directory, so that
// nobody can make keys that are taken for others': SipHash-2-4.
type keyHash struct{ k0, k1 uint64 }

// A message is found by its ordering key, by its cancel keys, or by one that is both.
const (
	keyBoth   = 0
	keyOrder  = 0x9e3779b97f4a7c15
	keyCancel = 0xc2b2ae3d27d4eb4f
)

// keyEntry says which message has a key.
type keyEntry struct{ hash, offset uint64 }

// entries appends what a message can be found by. cancel is nil where its ordering
// key does for that too.
func (k keyHash) entries(dst []keyEntry, offset uint64, key string, cancel []string) []keyEntry {
	if key != "" {
		h := k.of(key)
		if cancel != nil {
			h ^= keyOrder
		}
		dst = append(dst, keyEntry{h, offset})
	}
	for _, c := range cancel {
		if c != "" {
			dst = append(dst, keyEntry{k.of(c) ^ keyCancel, offset})
		}
	}
	return dst
}

func (k keyHash) of(key string) uint64 {
	s := sip{k.k0 ^ 0x736f6d6570736575, k.k1 ^ 0x646f72616e646f6d, k.k0 ^ 0x6c7967656e657261, k.k1 ^ 0x7465646279746573}
	last := uint64(len(key)) << 56
	for ; len(key) >= 8; key = key[8:] {
		s.block(uint64(key[0]) | uint64(key[1])<<8 | uint64(key[2])<<16 | uint64(key[3])<<24 |
			uint64(key[4])<<32 | uint64(key[5])<<40 | uint64(key[6])<<48 | uint64(key[7])<<56)
	}
	for i := range len(key) {
		last |= uint64(key[i]) << (8 * i)
	}
	s.block(last)
	s.v2 ^= 0xff
	for range 4 {
		s.round()
	}
	return s.v0 ^ s.v1 ^ s.v2 ^ s.v3
}

type sip struct{ v0, v1, v2, v3 uint64 }

func (s *sip) block(m uint64) {
	s.v3 ^= m
	s.round()
	s.round()
	s.v0 ^= m
}

func (s *sip) round() {
	s.v0 += s.v1
	s.v1 = bits.RotateLeft64(s.v1, 13) ^ s.v0
	s.v0 = bits.RotateLeft64(s.v0, 32)
	s.v2 += s.v3
	s.v3 = bits.RotateLeft64(s.v3, 16) ^ s.v2
	s.v0 += s.v3
	s.v3 = bits.RotateLeft64(s.v3, 21) ^ s.v0
	s.v2 += s.v1
	s.v1 = bits.RotateLeft64(s.v1, 17) ^ s.v2
	s.v2 = bits.RotateLeft64(s.v2, 32)
}
