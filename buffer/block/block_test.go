package block

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var seven = Sealer{Seed: 7}

func newCoder(t testing.TB) *Coder {
	t.Helper()
	c, err := NewCoder(2)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func incompressible(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b) // never fails
	return b
}

func TestSealOpen(t *testing.T) {
	c := newCoder(t)
	for name, tc := range map[string]struct {
		raw   []byte
		pack  func([]byte) ([]byte, Codec)
		codec Codec
	}{
		"empty":                {nil, c.Pack, Raw},
		"short":                {[]byte("x"), c.Pack, Raw},
		"repetitive":           {bytes.Repeat([]byte(`{"sku":"85123A"}`), 5000), c.Pack, Zstd},
		"incompressible":       {incompressible(100_000), c.Pack, Raw},
		"empty, fast":          {nil, c.PackFast, Raw},
		"short, fast":          {[]byte("x"), c.PackFast, Raw},
		"repetitive, fast":     {bytes.Repeat([]byte(`{"sku":"85123A"}`), 5000), c.PackFast, S2},
		"incompressible, fast": {incompressible(100_000), c.PackFast, Raw},
	} {
		t.Run(name, func(t *testing.T) {
			payload, codec := tc.pack(tc.raw)
			if codec != tc.codec {
				t.Errorf("codec = %d, want %d", codec, tc.codec)
			}
			want := Header{Kind: Messages, Codec: codec, Flags: Keyed, Seq: 7, First: 1 << 40, Base: 1_700_000_000_123, Durable: 6, Stream: 3, Count: 5000, RawLen: uint32(len(tc.raw)), Chain: 0xfeed}
			b := seven.Seal([]byte("before"), &want, payload)[len("before"):]
			got, p, err := seven.Open(b)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("header (-want +got):\n%s", diff)
			}
			raw, err := c.Unpack(got, p)
			if err != nil || !bytes.Equal(raw, tc.raw) {
				t.Errorf("unpack = %d bytes, %v; want %d bytes", len(raw), err, len(tc.raw))
			}
		})
	}
}

// TestEveryFlippedBitIsSeen flips each bit of a block: none may pass.
func TestEveryFlippedBitIsSeen(t *testing.T) {
	h := Header{Kind: Control, Seq: 9, RawLen: 40}
	b := seven.Seal(nil, &h, incompressible(40))
	for i := range b {
		for bit := range 8 {
			b[i] ^= 1 << bit
			if _, _, err := seven.Open(b); !errors.Is(err, ErrDamaged) {
				t.Errorf("byte %d bit %d flipped: err = %v, want ErrDamaged", i, bit, err)
			}
			b[i] ^= 1 << bit
		}
	}
	for n := range b {
		if _, _, err := seven.Open(b[:n]); !errors.Is(err, ErrDamaged) {
			t.Errorf("cut to %d bytes: err = %v, want ErrDamaged", n, err)
		}
	}
}

// TestAnotherSeal: who does not know the seed cannot make a block.
func TestAnotherSeal(t *testing.T) {
	h := Header{Kind: Messages, Seq: 1}
	for _, other := range []Sealer{{Seed: 0}, {Seed: 6}, {Seed: 8}} {
		if _, _, err := seven.Open(other.Seal(nil, &h, nil)); !errors.Is(err, ErrDamaged) {
			t.Errorf("a block sealed with %v: err = %v, want ErrDamaged", other, err)
		}
	}
}

func FuzzOpen(f *testing.F) {
	c := newCoder(f)
	h := Header{Kind: Messages, Codec: Zstd, Seq: 1, RawLen: 1600}
	payload, _ := c.Pack(bytes.Repeat([]byte("0123456789abcdef"), 100))
	f.Add(seven.Seal(nil, &h, payload))
	h.Codec = S2
	fast, _ := c.PackFast(bytes.Repeat([]byte("0123456789abcdef"), 100))
	f.Add(seven.Seal(nil, &h, fast))
	f.Add([]byte("FBLK"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, p, err := seven.Open(b)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Fatalf("err = %v, want ErrDamaged", err)
			}
			return
		}
		if raw, err := c.Unpack(h, p); err == nil && len(raw) != int(h.RawLen) {
			t.Fatalf("unpacked %d bytes, envelope says %d", len(raw), h.RawLen)
		}
	})
}

func FuzzReader(f *testing.F) {
	f.Add(AppendString([]byte{5, 1, 2}, "abc"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := NewReader(string(b))
		for r.Len() > 0 && r.Err() == nil {
			r.Uint()
			_ = r.String()
			r.Int()
			if n := r.Count(4); n*4 > len(b) {
				t.Fatalf("count %d from %d bytes", n, len(b))
			}
			r.Byte()
		}
	})
}
