package block

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"fmt"
)

// What is looked at in places, and never read whole, is sealed in chunks under a key
// of its own, the nonce of a chunk being its number:
//
//	uint32   which data key
//	16       the salt, random
//	…        chunks of 4 KiB, the last one shorter, each with a tag

const (
	chunkSize   = 4 << 10
	saltSize    = 16
	chunksStart = keyNumber + saltSize
)

// ChunksLen is how long n bytes are, sealed in chunks.
func ChunksLen(n int) int { return chunksStart + n + (n+chunkSize-1)/chunkSize*tagSize }

// SealChunks seals what is to be looked at in places.
func (k *DataKeys) SealChunks(plain []byte) ([]byte, error) {
	num := len(k.list) - 1
	out := make([]byte, chunksStart, ChunksLen(len(plain)))
	binary.LittleEndian.PutUint32(out, uint32(num))
	_, _ = rand.Read(out[keyNumber:chunksStart]) // never fails
	aead, err := k.chunkKey(uint64(num), out[keyNumber:chunksStart])
	if err != nil {
		return nil, err
	}
	for i := 0; len(plain) > 0; i++ {
		n := min(chunkSize, len(plain))
		out = aead.Seal(out, chunkNonce(i), plain[:n], nil)
		plain = plain[n:]
	}
	return out, nil
}

func (k *DataKeys) chunkKey(num uint64, salt []byte) (cipher.AEAD, error) {
	secret, err := k.derive(num, "forebay chunks", salt)
	if err != nil {
		return nil, err
	}
	b, err := aes.NewCipher(secret)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(b)
}

func chunkNonce(i int) []byte {
	return binary.LittleEndian.AppendUint64(make([]byte, nonceSize-8, nonceSize), uint64(i))
}

// Chunks are bytes that were sealed in chunks. It is safe for concurrent use.
type Chunks struct {
	aead   cipher.AEAD
	sealed []byte // the chunks; may be a mapping
}

// OpenChunks gets ready to look at what SealChunks returned, which it keeps.
func (k *DataKeys) OpenChunks(sealed []byte) (*Chunks, error) {
	if k == nil || len(sealed) < chunksStart {
		return nil, fmt.Errorf("%w: chunks in %d bytes, or without a key", ErrDamaged, len(sealed))
	}
	aead, err := k.chunkKey(uint64(binary.LittleEndian.Uint32(sealed)), sealed[keyNumber:chunksStart])
	return &Chunks{aead, sealed[chunksStart:]}, err
}

// open returns one chunk.
func (c *Chunks) open(dst []byte, i int) ([]byte, error) {
	at := min(i*(chunkSize+tagSize), len(c.sealed))
	end := min(at+chunkSize+tagSize, len(c.sealed))
	plain, err := c.aead.Open(dst, chunkNonce(i), c.sealed[at:end], nil)
	if err != nil {
		return dst, fmt.Errorf("%w: chunk %d is not what was encrypted", ErrDamaged, i)
	}
	return plain, nil
}

// All returns all of it.
func (c *Chunks) All() (plain []byte, err error) {
	plain = make([]byte, 0, len(c.sealed))
	for i := 0; i*(chunkSize+tagSize) < len(c.sealed) && err == nil; i++ {
		plain, err = c.open(plain, i)
	}
	return plain, err
}

// ChunkReader looks at places, for one goroutine. After its first error, which it
// keeps, it reads zeros.
type ChunkReader struct {
	c    *Chunks
	i    int // the chunk that it has
	buf  []byte
	err  error
	part []byte
}

// Reader returns a reader that has not read yet.
func (c *Chunks) Reader() *ChunkReader { return &ChunkReader{c: c, i: -1} }

// Err is its first error.
func (r *ChunkReader) Err() error { return r.err }

// At returns n bytes, which may change at the next call.
func (r *ChunkReader) At(at, n int) []byte {
	r.part = r.part[:0]
	for len(r.part) < n && r.err == nil {
		r.load((at + len(r.part)) / chunkSize)
		from := min((at+len(r.part))%chunkSize, len(r.buf))
		more := r.buf[from:min(len(r.buf), from+n-len(r.part))]
		if len(more) == n {
			return more
		}
		if len(more) == 0 && r.err == nil {
			r.err = fmt.Errorf("%w: nothing is encrypted at byte %d", ErrDamaged, at)
		}
		r.part = append(r.part, more...)
	}
	if r.err != nil {
		return make([]byte, n)
	}
	return r.part
}

func (r *ChunkReader) load(i int) {
	if r.i == i {
		return
	}
	r.i = i
	r.buf, r.err = r.c.open(r.buf[:0], i)
}
