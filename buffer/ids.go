package buffer

import (
	"crypto/aes"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"strings"
)

// An id is stream and offset, enciphered: it finds its message by itself, it
// cannot be guessed (six zero bytes tell a forged one), and no index of ids has
// to be kept.

const idAlphabet = "abcdefghijklmnopqrstuvwxyz234567"

var idEncoding = base32.NewEncoding(idAlphabet).WithPadding(base32.NoPadding)

// idLen is the length of an id: 128 bits, five a character.
const idLen = 26

const maxOffset = 1<<56 - 1

func (e *Engine) id(stream uint32, offset uint64) string {
	var b [aes.BlockSize]byte
	binary.BigEndian.PutUint64(b[2:], offset&maxOffset)
	b[0], b[1], b[2] = byte(stream>>16), byte(stream>>8), byte(stream)
	e.ids.Encrypt(b[:], b[:])
	// As idEncoding does, of which this is half of what an id costs.
	var text [idLen]byte
	high, low := binary.BigEndian.Uint64(b[:]), binary.BigEndian.Uint64(b[8:])
	for i := range 12 {
		text[i] = idAlphabet[high>>59]
		high <<= 5
	}
	text[12] = idAlphabet[high>>59|low>>63]
	low <<= 1
	for i := 13; i < idLen; i++ {
		text[i] = idAlphabet[low>>59]
		low <<= 5
	}
	return string(text[:])
}

// ID implements [Receipts]. It is empty for a stream that is not known.
func (e *Engine) ID(ref Ref) string {
	e.mu.Lock()
	s := e.streams[ref.Stream]
	e.mu.Unlock()
	if s == nil {
		return ""
	}
	return e.id(s.num, ref.Offset)
}

// Ref implements [Receipts].
func (e *Engine) Ref(id string) (Ref, error) {
	var b [aes.BlockSize]byte
	id = strings.ToLower(id)
	if len(id) != idLen {
		return Ref{}, ErrNoMessage
	}
	if _, err := idEncoding.Decode(b[:], []byte(id)); err != nil || idEncoding.EncodeToString(b[:]) != id {
		return Ref{}, ErrNoMessage
	}
	e.ids.Decrypt(b[:], b[:])
	for _, zero := range b[10:] {
		if zero != 0 {
			return Ref{}, ErrNoMessage
		}
	}
	num := uint32(b[0])<<16 | uint32(b[1])<<8 | uint32(b[2])
	b[2] = 0
	offset := binary.BigEndian.Uint64(b[2:])
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.byNum[num]
	switch {
	case s == nil && num <= e.lastNum:
		return Ref{}, fmt.Errorf("%w: its stream was removed", ErrGone)
	case s == nil || offset >= s.next:
		return Ref{}, ErrNoMessage
	}
	return Ref{Stream: s.Name, Offset: offset}, nil
}
