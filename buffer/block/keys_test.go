package block

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"
)

func dataKeys(t testing.TB, list ...DataKey) *DataKeys {
	t.Helper()
	k, err := NewDataKeys(list)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestEncrypted: nothing of a payload is in its block, two blocks of one payload have
// nothing in common, and only who has the key reads them.
func TestEncrypted(t *testing.T) {
	first, second := NewDataKey(), NewDataKey()
	old, mine := dataKeys(t, first), dataKeys(t, first, second)
	payload := incompressible(10_000)
	for _, seq := range []uint64{0, 1, 1 << 16, 1<<16 + 1, 1 << 40} {
		h := Header{Kind: Messages, Seq: seq, Count: 3, Chain: 9}
		was := Sealer{7, old}.Seal(nil, &h, payload)
		b := Sealer{7, mine}.Seal([]byte("before"), &h, payload)[len("before"):]
		if len(b) != Overhead+len(payload) || h.Flags&Encrypted == 0 {
			t.Fatalf("a block of %d bytes, flags %d", len(b), h.Flags)
		}
		for _, sealed := range [][]byte{was, b} {
			for at := 0; at+8 <= len(payload); at += 8 {
				if bytes.Contains(sealed, payload[at:at+8]) {
					t.Fatalf("bytes %d to %d of the payload are in the block", at, at+8)
				}
			}
			got, p, err := Sealer{7, mine}.Open(sealed)
			if err != nil || !bytes.Equal(p, payload) || got.Seq != seq || got.Count != 3 {
				t.Fatalf("open = %+v, %d bytes, %v", got, len(p), err)
			}
			for name, other := range map[string]*DataKeys{"none": nil, "another": dataKeys(t, second, first), "two others": dataKeys(t, NewDataKey(), NewDataKey())} {
				if _, _, err := (Sealer{7, other}).Open(sealed); !errors.Is(err, ErrDamaged) {
					t.Errorf("opened with %s: %v, want ErrDamaged", name, err)
				}
			}
		}
		if _, _, err := (Sealer{7, old}).Open(b); !errors.Is(err, ErrDamaged) {
			t.Errorf("opened without the newer key: %v, want ErrDamaged", err)
		}
		again := Sealer{7, mine}.Seal(nil, &h, payload)
		if at := HeaderSize + keyNumber; bytes.Equal(again[at:at+nonceSize], b[at:at+nonceSize]) {
			t.Error("two blocks have one nonce")
		}
	}
}

// TestEncryptedFlips: a bit that changed is damage, also where the checksum was made
// to fit, in what the envelope says too.
func TestEncryptedFlips(t *testing.T) {
	s := Sealer{7, dataKeys(t, NewDataKey())}
	h := Header{Kind: Messages, Seq: 5, Count: 1}
	b := s.Seal(nil, &h, incompressible(50))
	for i := range 8 * len(b) {
		b[i/8] ^= 1 << (i % 8)
		if _, _, err := s.Open(b); !errors.Is(err, ErrDamaged) {
			t.Errorf("bit %d flipped: %v, want ErrDamaged", i, err)
		}
		at := i / 8
		if at < 5 || (at >= 52 && at < 56) || (at >= headChecked && at < HeaderSize) || Flags(b[7])&Encrypted == 0 {
			b[at] ^= 1 << (i % 8)
			continue // without a checksum it is no block, or none that says it is encrypted
		}
		forged := Peek(b)
		fitted := append(s.endHead(bytes.Clone(b[:headChecked]), 0, &forged, b[HeaderSize:]), b[HeaderSize:]...)
		if _, _, err := s.Open(fitted); !errors.Is(err, ErrDamaged) {
			t.Errorf("bit %d flipped and the checksum made to fit: %v, want ErrDamaged", i, err)
		}
		b[i/8] ^= 1 << (i % 8)
	}
}

// TestChunks looks at places, over the edges of chunks too.
func TestChunks(t *testing.T) {
	k := dataKeys(t, NewDataKey())
	for _, n := range []int{0, 1, chunkSize - 1, chunkSize, chunkSize + 1, 3*chunkSize + 7} {
		plain := incompressible(n)
		sealed, err := k.SealChunks(plain)
		if err != nil || len(sealed) != ChunksLen(n) {
			t.Fatalf("%d bytes take %d, %v; want %d", n, len(sealed), err, ChunksLen(n))
		}
		c, err := k.OpenChunks(sealed)
		if err != nil {
			t.Fatal(err)
		}
		if all, err := c.All(); err != nil || !bytes.Equal(all, plain) {
			t.Errorf("all of %d bytes = %d, %v", n, len(all), err)
		}
		r := c.Reader()
		for at := 0; at < n; at += 301 {
			for _, size := range []int{1, 8, 500, chunkSize} {
				if size = min(size, n-at); !bytes.Equal(r.At(at, size), plain[at:at+size]) || r.Err() != nil {
					t.Fatalf("%d bytes at %d of %d are others; %v", size, at, n, r.Err())
				}
			}
		}
		if got := r.At(n, 4); !errors.Is(r.Err(), ErrDamaged) || !bytes.Equal(got, make([]byte, 4)) {
			t.Errorf("behind the end of %d bytes: %v, %v", n, got, r.Err())
		}
	}
}

// TestChunksHarmed: chunks that changed, went, or changed places are damage.
func TestChunksHarmed(t *testing.T) {
	k := dataKeys(t, NewDataKey())
	sealed, err := k.SealChunks(incompressible(3 * chunkSize))
	if err != nil {
		t.Fatal(err)
	}
	const stride = chunkSize + tagSize
	swapped := bytes.Clone(sealed)
	copy(swapped[chunksStart:], sealed[chunksStart+stride:][:stride])
	copy(swapped[chunksStart+stride:], sealed[chunksStart:][:stride])
	harmed := map[string][]byte{"swapped": swapped, "cut": sealed[:len(sealed)-1], "empty": {}}
	for at := 0; at < len(sealed); at += 97 {
		b := slices.Clone(sealed)
		b[at] ^= 0x10
		harmed[fmt.Sprint("flipped at ", at)] = b
	}
	for name, b := range harmed {
		c, err := k.OpenChunks(b)
		if err == nil {
			_, err = c.All()
		}
		if !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v, want ErrDamaged", name, err)
		}
	}
}

// TestSealIn: a block that is sealed where it was packed is that of Seal, and
// its memory can be used again once it is given back.
func TestSealIn(t *testing.T) {
	for name, raw := range map[string][]byte{"empty": nil, "shrinks": bytes.Repeat([]byte("order "), 50_000), "does not": incompressible(100_000)} {
		for _, keys := range []*DataKeys{nil, dataKeys(t, NewDataKey())} {
			c := newCoder(t)
			c.Sealer = Sealer{7, keys}
			for seq := range uint64(3) {
				sealable, codec := c.PackSealable(raw)
				h := Header{Kind: Messages, Codec: codec, Seq: seq, Count: 3, RawLen: uint32(len(raw)), Chain: 9}
				b := c.SealIn(sealable, &h)
				got, payload, err := c.Open(b)
				if err != nil || got != h {
					t.Fatalf("%s: %+v, %v; want %+v", name, got, err, h)
				}
				if back, err := c.Unpack(got, payload); err != nil || !bytes.Equal(back, raw) {
					t.Errorf("%s: %d bytes come back, %v", name, len(back), err)
				}
				if again := c.Seal(nil, &h, sealable[HeaderSize:]); keys == nil && !bytes.Equal(b, again) {
					t.Errorf("%s: the block is not that of Seal", name)
				}
				c.Free(sealable)
			}
		}
	}
}
