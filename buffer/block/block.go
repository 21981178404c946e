// Package block is the unit of writing: an envelope of its own around a
// compressed payload, so that nothing rests on the store beneath to notice
// damage. In a directory that is encrypted the payload is, with AES-256-GCM and the
// first 60 bytes of the envelope as what it belongs to: four bytes that say which
// data key, a random nonce, the text, the tag.
//
// The envelope is 64 bytes, little-endian:
//
//	 0  magic "FBLK"        32  durable seq: highest known durable when encoded
//	 4  version             40  stream number
//	 5  kind                44  count of messages
//	 6  codec               48  length before compression
//	 7  flags               52  length of the payload
//	 8  seq                 56  chain: checksum of the block before
//	16  first offset        60  checksum: CRC-32C of bytes 0–59 and the payload
//	24  base time, ms       64  payload
package block

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"runtime"
)

// HeaderSize is the length of the envelope before the payload, in bytes.
const HeaderSize = 64

const (
	magic   = 0x4b4c4246 // "FBLK"
	version = 1
)

// ErrDamaged means that bytes are not what was written.
var ErrDamaged = errors.New("damaged block")

// Kind says what a payload holds.
type Kind uint8

// The kinds of block.
const (
	Messages Kind = 1  // records of one stream
	Control  Kind = 2  // changes of drains' state
	Snapshot Kind = 3  // the whole of drains' state
	Outcomes Kind = 4  // final states, in files of their own
	Answers  Kind = 7  // of sinks, in files of their own
	Onces    Kind = 6  // idempotency records, in files of their own
	Index    Kind = 5  // places of a segment's blocks, in files of their own
	Filter   Kind = 8  // of a file of idempotency records, in a file of its own
	Keys     Kind = 9  // of the messages of a segment, in a file of their own
	Outer    Kind = 10 // end of a filter of several files of idempotency records
)

// Flags say what a reader may want to know without unpacking.
type Flags uint8

const (
	// Keyed says that at least one message has an ordering key.
	Keyed Flags = 1
	// Last says that a block is the last of its commit.
	Last Flags = 2
	// Cancels says that at least one message has cancel keys that are not its
	// ordering key.
	Cancels Flags = 4
	// Rewritten says that messages which were finished may be left out: Count is then
	// how many offsets the block covers.
	Rewritten Flags = 8
	// Encrypted says that the payload is sealed with a data key of the directory, or
	// the secret parts of it are. Only what seals sets it.
	Encrypted Flags = 16
	// Timed says that at least one message has times of its own.
	Timed Flags = 32
)

// Header is the envelope of a block.
type Header struct {
	Kind    Kind
	Codec   Codec
	Flags   Flags
	Seq     uint64 // dense over the buffer's life, from 1
	First   uint64 // offset of the first message
	Base    int64  // accepted_at of the first message, Unix ms; of changes and snapshots, when they were cut
	Durable uint64 // the highest seq that was durable when this was encoded
	Stream  uint32
	Count   uint32
	RawLen  uint32
	Chain   uint32 // Sum of the block with Seq-1
	Sum     uint32
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Sealer seals and opens the blocks of one data directory.
type Sealer struct {
	// Seed is where checksums start: a secret, so that a message that holds the bytes
	// of a block is never taken for one when damage makes a reader look for the next.
	Seed uint32
	// Keys encrypt what is sealed; nil: it is stored in the clear.
	Keys *DataKeys
}

// Seal appends the block of h and payload to dst, and sets h.Sum and whether it is
// encrypted.
func (k Sealer) Seal(dst []byte, h *Header, payload []byte) []byte {
	start := len(dst)
	if h.Flags &^= Encrypted; k.Keys == nil {
		dst = h.append(dst, len(payload))
		return append(k.endHead(dst, start, h, payload), payload...)
	}
	h.Flags |= Encrypted
	dst = append(h.append(dst, len(payload)+sealedMore), 0, 0, 0, 0)
	dst = k.Keys.seal(dst, h.Seq, dst[start:start+headChecked], payload)
	k.endHead(dst[:start+headChecked], start, h, dst[start+HeaderSize:])
	return dst
}

// SealTo writes the block of h and a payload in parts, which is not compressed, and
// sets h.Sum. It encrypts nothing: who wants that gives it parts that are.
func (k Sealer) SealTo(w io.Writer, h *Header, payload ...[]byte) error {
	h.Codec, h.RawLen = Raw, 0
	for _, part := range payload {
		h.RawLen += uint32(len(part))
	}
	head := h.append(make([]byte, 0, HeaderSize), int(h.RawLen))
	if _, err := w.Write(k.endHead(head, 0, h, payload...)); err != nil {
		return err
	}
	for _, part := range payload {
		if _, err := w.Write(part); err != nil {
			return err
		}
	}
	return nil
}

// headChecked is what a checksum covers of an envelope: all but itself.
const headChecked = HeaderSize - 4

// append appends the envelope of a payload of size bytes without its checksum.
func (h *Header) append(dst []byte, size int) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, magic)
	dst = append(dst, version, byte(h.Kind), byte(h.Codec), byte(h.Flags))
	dst = binary.LittleEndian.AppendUint64(dst, h.Seq)
	dst = binary.LittleEndian.AppendUint64(dst, h.First)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(h.Base))
	dst = binary.LittleEndian.AppendUint64(dst, h.Durable)
	dst = binary.LittleEndian.AppendUint32(dst, h.Stream)
	dst = binary.LittleEndian.AppendUint32(dst, h.Count)
	dst = binary.LittleEndian.AppendUint32(dst, h.RawLen)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(size))
	return binary.LittleEndian.AppendUint32(dst, h.Chain)
}

// endHead appends the checksum of an envelope that begins at start, and sets h.Sum.
func (k Sealer) endHead(dst []byte, start int, h *Header, payload ...[]byte) []byte {
	h.Sum = k.sum(dst[start:], payload...)
	return binary.LittleEndian.AppendUint32(dst, h.Sum)
}

func (k Sealer) sum(head []byte, payload ...[]byte) uint32 {
	sum := crc32.Update(k.Seed, castagnoli, head)
	for _, part := range payload {
		sum = crc32.Update(sum, castagnoli, part)
	}
	return sum
}

// Open checks b, the whole of one block, and returns its header and its
// payload, still compressed: a slice of b, where it is not encrypted. Anything
// unexpected is ErrDamaged.
func (k Sealer) Open(b []byte) (Header, []byte, error) {
	h, err := checkHead(b, int64(len(b))-HeaderSize)
	if err != nil {
		return Header{}, nil, err
	}
	payload := b[HeaderSize:]
	if err := checkSum(&h, k.sum(b[:headChecked], payload)); err != nil {
		return Header{}, nil, err
	}
	if h.Flags&Encrypted == 0 {
		return h, payload, nil
	}
	if payload, err = k.Keys.open(h.Seq, b[:headChecked], payload); err != nil {
		return Header{}, nil, err
	}
	return h, payload, nil
}

// checkHead reads the envelope of a payload of so many bytes. Its checksum is still to
// be checked.
func checkHead(b []byte, payload int64) (Header, error) {
	if len(b) < HeaderSize {
		return Header{}, fmt.Errorf("%w: %d bytes, an envelope has %d", ErrDamaged, len(b), HeaderSize)
	}
	le := binary.LittleEndian
	if le.Uint32(b) != magic {
		return Header{}, fmt.Errorf("%w: no envelope", ErrDamaged)
	}
	if b[4] != version {
		return Header{}, fmt.Errorf("%w: envelope version %d, this program reads %d", ErrDamaged, b[4], version)
	}
	h := Peek(b)
	if said := int64(le.Uint32(b[52:])); said != payload {
		return Header{}, fmt.Errorf("%w: seq %d has %d payload bytes, its envelope says %d", ErrDamaged, h.Seq, payload, said)
	}
	return h, nil
}

func checkSum(h *Header, sum uint32) error {
	if sum != h.Sum {
		return fmt.Errorf("%w: seq %d has another checksum than its envelope says", ErrDamaged, h.Seq)
	}
	if h.Kind < Messages || h.Kind > Outer || h.Codec > S2 {
		return fmt.Errorf("%w: seq %d has kind %d, codec %d", ErrDamaged, h.Seq, h.Kind, h.Codec)
	}
	return nil
}

// Check reads a block of size bytes to its end, and checks it as Open does. It lets
// others run meanwhile.
func (k Sealer) Check(r io.Reader, size int64) (Header, error) {
	var head [HeaderSize]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return Header{}, damagedEnd(err)
	}
	h, err := checkHead(head[:], size-HeaderSize)
	if err != nil {
		return Header{}, err
	}
	sum, buf := crc32.Update(k.Seed, castagnoli, head[:headChecked]), make([]byte, 64<<10)
	for left := size - HeaderSize; left > 0; {
		n := min(left, int64(len(buf)))
		if _, err := io.ReadFull(r, buf[:n]); err != nil {
			return Header{}, damagedEnd(err)
		}
		sum, left = crc32.Update(sum, castagnoli, buf[:n]), left-n
		runtime.Gosched()
	}
	return h, checkSum(&h, sum)
}

func damagedEnd(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it is cut off", ErrDamaged)
	}
	return err
}

// Length reads from the start of a block how long all of it is. It checks
// nothing but the magic; ok is false where there is none.
func Length(b []byte) (n int, ok bool) {
	if len(b) < HeaderSize || binary.LittleEndian.Uint32(b) != magic {
		return 0, false
	}
	return HeaderSize + int(binary.LittleEndian.Uint32(b[52:])), true
}

// Peek reads the fields of an envelope without checking them. b holds at least
// HeaderSize bytes.
func Peek(b []byte) Header {
	le := binary.LittleEndian
	return Header{
		Kind: Kind(b[5]), Codec: Codec(b[6]), Flags: Flags(b[7]),
		Seq: le.Uint64(b[8:]), First: le.Uint64(b[16:]), Base: int64(le.Uint64(b[24:])), Durable: le.Uint64(b[32:]),
		Stream: le.Uint32(b[40:]), Count: le.Uint32(b[44:]), RawLen: le.Uint32(b[48:]),
		Chain: le.Uint32(b[56:]), Sum: le.Uint32(b[60:]),
	}
}
