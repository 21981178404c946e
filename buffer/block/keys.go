package block

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"sync/atomic"
)

// DataKey is a secret that payloads are sealed with. No payload is sealed with it
// itself: the keys of AES-256-GCM are derived from it.
type DataKey [32]byte

// NewDataKey returns a random one.
func NewDataKey() (k DataKey) {
	_, _ = rand.Read(k[:]) // never fails
	return k
}

const (
	keyNumber  = 4  // which data key, before a sealed payload
	nonceSize  = 12 // random, behind that
	tagSize    = 16
	sealedMore = keyNumber + nonceSize + tagSize

	// Overhead is the most that a block takes beside its payload, in bytes.
	Overhead = HeaderSize + sealedMore

	// blocksPerKey is how many blocks in a row have one derived key, as a power of
	// two: about as many as a segment has.
	blocksPerKey = 16
)

// DataKeys are the data keys of a directory. Blocks are sealed with the last of them,
// and opened with the one that they name. It is safe for concurrent use.
type DataKeys struct {
	list []DataKey
	mask cipher.Block
	last atomic.Pointer[derivedKey] // most blocks follow one that was opened or sealed just now
}

// derivedKey is the key of a stretch of blocks.
type derivedKey struct {
	num, stretch uint64
	aead         cipher.AEAD
}

// NewDataKeys returns the keys of a directory, the oldest first; there is at least one.
func NewDataKeys(list []DataKey) (*DataKeys, error) {
	k := &DataKeys{list: list}
	secret, err := k.derive(0, "forebay filter", nil)
	if err == nil {
		k.mask, err = aes.NewCipher(secret)
	}
	return k, err
}

func (k *DataKeys) derive(num uint64, use string, salt []byte) ([]byte, error) {
	if num >= uint64(len(k.list)) {
		return nil, fmt.Errorf("%w: it is sealed with data key %d, the directory has %d", ErrDamaged, num+1, len(k.list))
	}
	secret, err := hkdf.Key(sha256.New, k.list[num][:], salt, use, 32)
	if err != nil {
		return nil, fmt.Errorf("derive key: %w", err)
	}
	return secret, nil
}

// Mask is a secret permutation of what filters are asked with: whoever sees the
// bits of a filter cannot tell which keys they stand for, nor try some.
func (k *DataKeys) Mask(key [16]byte) (masked [16]byte) {
	k.mask.Encrypt(masked[:], key[:])
	return masked
}

// of returns the cipher for a stretch of blocks.
func (k *DataKeys) of(num, seq uint64) (cipher.AEAD, error) {
	stretch := seq >> blocksPerKey
	if d := k.last.Load(); d != nil && d.num == num && d.stretch == stretch {
		return d.aead, nil
	}
	secret, err := k.derive(num, "forebay block", binary.LittleEndian.AppendUint64(nil, stretch))
	if err != nil {
		return nil, err
	}
	b, err := aes.NewCipher(secret)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(b)
	if err != nil {
		return nil, err
	}
	k.last.Store(&derivedKey{num, stretch, aead})
	return aead, nil
}

// seal appends a payload, sealed, that belongs to an envelope.
func (k *DataKeys) seal(dst []byte, seq uint64, head, payload []byte) []byte {
	num := uint64(len(k.list) - 1)
	aead, err := k.of(num, seq)
	if err != nil {
		panic(err) // the key is there, and has the right length
	}
	return aead.Seal(binary.LittleEndian.AppendUint32(dst, uint32(num)), nil, payload, head)
}

// open returns what seal was given, in memory of its own.
func (k *DataKeys) open(seq uint64, head, sealed []byte) ([]byte, error) {
	if k == nil {
		return nil, fmt.Errorf("%w: seq %d is encrypted, and the directory is not", ErrDamaged, seq)
	}
	if len(sealed) < sealedMore {
		return nil, fmt.Errorf("%w: seq %d is encrypted, in %d bytes", ErrDamaged, seq, len(sealed))
	}
	aead, err := k.of(uint64(binary.LittleEndian.Uint32(sealed)), seq)
	if err != nil {
		return nil, err
	}
	payload, err := aead.Open(nil, nil, sealed[keyNumber:], head)
	if err != nil {
		return nil, fmt.Errorf("%w: seq %d is not what was encrypted", ErrDamaged, seq)
	}
	return payload, nil
}
