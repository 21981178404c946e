package block

import (
	"bytes"
	"fmt"
	"sync"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

// Codec says how a payload is compressed.
type Codec uint8

// The codecs.
const (
	Raw  Codec = 0
	Zstd Codec = 1
	S2   Codec = 2
)

const (
	// MaxRaw bounds what a payload may inflate to: the largest message and its fields.
	MaxRaw     = 64 << 20
	sampleSize = 4 << 10
	mostFree   = 1 << 20 // what is longer would be held for one odd block
)

// Coder packs payloads and seals blocks, and does the reverse. It is safe for
// concurrent use once its Sealer is set.
type Coder struct {
	Sealer
	enc *zstd.Encoder
	dec *zstd.Decoder
	// fast holds memory for the longest that a payload may become.
	fast     sync.Pool
	sealable sync.Pool // of *[]byte
}

// NewCoder returns a coder that uses at most n goroutines' worth of state at a time.
func NewCoder(n int) (*Coder, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderCRC(false),
		zstd.WithEncoderConcurrency(n), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, fmt.Errorf("set up compression: %w", err)
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(n), zstd.WithDecoderMaxMemory(MaxRaw), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, fmt.Errorf("set up decompression: %w", err)
	}
	return &Coder{enc: enc, dec: dec}, nil
}

// Pack compresses raw, unless a sample of it does not shrink by a tenth; then
// it returns raw itself.
func (c *Coder) Pack(raw []byte) ([]byte, Codec) {
	if !c.shrinks(raw) {
		return raw, Raw
	}
	packed := c.enc.EncodeAll(raw, make([]byte, 0, len(raw)/3+256))
	return smaller(raw, packed, Zstd)
}

// PackFast is Pack in a quarter of the time, for 1.3 to 1.9 times the disk. What
// does not shrink costs it next to nothing: it needs no sample.
func (c *Coder) PackFast(raw []byte) (payload []byte, codec Codec) {
	payload, codec = raw, Raw
	c.packFast(raw, func(packed []byte) { payload, codec = bytes.Clone(packed), S2 })
	return payload, codec
}

// PackSealable is PackFast, with HeaderSize bytes before the payload, which is never raw
// itself: SealIn seals it where it is. Free takes the memory back.
func (c *Coder) PackSealable(raw []byte) (sealable []byte, codec Codec) {
	if c.packFast(raw, func(packed []byte) { sealable, codec = c.behindHead(packed), S2 }); codec == Raw {
		sealable = c.behindHead(raw)
	}
	return sealable, codec
}

// packFast gives keep what raw becomes, if it shrinks by a tenth, in memory that is lent.
func (c *Coder) packFast(raw []byte, keep func(packed []byte)) {
	room, _ := c.fast.Get().(*[]byte)
	if room == nil {
		room = new([]byte)
	}
	defer c.fast.Put(room)
	if most := s2.MaxEncodedLen(len(raw)); cap(*room) < most {
		*room = make([]byte, most)
	}
	if packed := s2.Encode((*room)[:cap(*room)], raw); len(packed) <= len(raw)*9/10 {
		keep(packed)
	}
}

func (c *Coder) behindHead(payload []byte) []byte {
	n := HeaderSize + len(payload)
	b, _ := c.sealable.Get().(*[]byte)
	if b == nil || cap(*b) < n {
		b = new(make([]byte, 0, n+n/8))
	}
	return append((*b)[:HeaderSize], payload...)
}

// SealIn is Seal of what PackSealable returned, and uses its memory where nothing is
// encrypted.
func (c *Coder) SealIn(sealable []byte, h *Header) []byte {
	payload := sealable[HeaderSize:]
	if c.Keys != nil {
		return c.Seal(make([]byte, 0, Overhead+len(payload)), h, payload)
	}
	h.Flags &^= Encrypted
	c.endHead(h.append(sealable[:0], len(payload)), 0, h, payload)
	return sealable
}

// Free takes what PackSealable returned, once nobody reads it any more; nil is none.
func (c *Coder) Free(sealable []byte) {
	if sealable != nil && cap(sealable) <= mostFree {
		c.sealable.Put(&sealable)
	}
}

// shrinks looks at the middle: heads of payloads (method, path, field names) shrink in any
// case. What is short is not worth the look.
func (c *Coder) shrinks(raw []byte) bool {
	if len(raw) <= 4*sampleSize {
		return true
	}
	mid := len(raw)/2 - sampleSize/2
	return len(c.enc.EncodeAll(raw[mid:mid+sampleSize], make([]byte, 0, sampleSize+64))) <= sampleSize*9/10
}

func smaller(raw, packed []byte, codec Codec) ([]byte, Codec) {
	if len(packed) >= len(raw) {
		return raw, Raw
	}
	return packed, codec
}

// Unpack returns what Pack was given. The result is a new slice, never a part of payload.
func (c *Coder) Unpack(h Header, payload []byte) ([]byte, error) {
	if h.RawLen > MaxRaw {
		return nil, fmt.Errorf("%w: seq %d says it inflates to %d bytes", ErrDamaged, h.Seq, h.RawLen)
	}
	raw := make([]byte, 0, h.RawLen)
	switch h.Codec {
	case Raw:
		raw = append(raw, payload...)
	case Zstd:
		var err error
		if raw, err = c.dec.DecodeAll(payload, raw); err != nil {
			return nil, fmt.Errorf("%w: seq %d: %w", ErrDamaged, h.Seq, err)
		}
	case S2:
		if n, err := s2.DecodedLen(payload); err != nil || n != int(h.RawLen) {
			return nil, fmt.Errorf("%w: seq %d inflates to %d bytes, its envelope says %d", ErrDamaged, h.Seq, n, h.RawLen)
		}
		var err error
		if raw, err = s2.Decode(raw[:h.RawLen], payload); err != nil {
			return nil, fmt.Errorf("%w: seq %d: %w", ErrDamaged, h.Seq, err)
		}
	}
	if len(raw) != int(h.RawLen) {
		return nil, fmt.Errorf("%w: seq %d inflates to %d bytes, its envelope says %d", ErrDamaged, h.Seq, len(raw), h.RawLen)
	}
	return raw, nil
}
