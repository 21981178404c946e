package buffer

import (
	"encoding/binary"
	"slices"
	"strconv"
	"strings"
	"time"

	"forebay/buffer/block"
)

// Origin is which record of a source a message was, as far as it is the message's alone:
// messages of a source share their header, which names the partition in Forebay-Source.
type Origin struct {
	Offset int64
	Time   time.Time // the record's timestamp, in milliseconds
	Keyed  bool      // the record had a key
	Key    string    // as a field's value
}

// The fields that tell a sink which record a message was.
const (
	SourceField    = "Forebay-Source" // TOPIC/PARTITION/OFFSET; in Header without the offset
	SourceKeyField = "Forebay-Source-Key"
	SourceTime     = "Forebay-Source-Time"
)

// SourceTimeFormat is RFC 3339 with milliseconds.
const SourceTimeFormat = "2006-01-02T15:04:05.000Z07:00"

// fields puts what the origin says in its place by name, into a header of its own.
func (o *Origin) fields(header []Field) []Field {
	out := make([]Field, 0, len(header)+4)
	i, named := slices.BinarySearchFunc(header, SourceField, func(f Field, name string) int { return strings.Compare(f.Name, name) })
	out = append(out, header[:i]...)
	at := ""
	if named {
		at, i = header[i].Value+"/", i+1
	}
	out = append(out, Field{SourceField, at + strconv.FormatInt(o.Offset, 10)})
	if o.Keyed {
		out = append(out, Field{SourceKeyField, o.Key})
	}
	out = append(out, Field{SourceTime, sourceTime(o.Time)})
	return append(out, header[i:]...)
}

// sourceTime is SourceTimeFormat, which time.Format takes its time for.
func sourceTime(t time.Time) string {
	t = t.UTC()
	if y := t.Year(); y < 1000 || y > 9999 {
		return t.Format(SourceTimeFormat)
	}
	b := t.AppendFormat(make([]byte, 0, len(SourceTimeFormat)), time.DateOnly)
	h, m, s := t.Clock()
	ms := t.Nanosecond() / int(time.Millisecond)
	for _, part := range []struct {
		before byte
		n, of  int
	}{{'T', h, 10}, {':', m, 10}, {':', s, 10}, {'.', ms, 100}} {
		b = append(b, part.before)
		for of := part.of; of > 0; of /= 10 {
			b = append(b, byte('0'+part.n/of%10))
		}
	}
	return string(append(b, 'Z'))
}

// An origin in a record is
//
//	varint   offset, then time in Unix ms
//	uvarint  0: no key; 1: the message's ordering key; else the key's length and 2
//	         bytes of the key

const (
	originNoKey = iota
	originOrderingKey
	originKey
)

// ownKey is how an origin's key is stored beside an ordering key, and which bytes follow.
func (o *Origin) ownKey(ordering string) (how uint64, key string) {
	switch {
	case !o.Keyed:
		return originNoKey, ""
	case o.Key == ordering:
		return originOrderingKey, ""
	}
	return originKey + uint64(len(o.Key)), o.Key
}

func (o *Origin) append(dst []byte, ordering string) []byte {
	how, key := o.ownKey(ordering)
	dst = binary.AppendVarint(dst, o.Offset)
	dst = binary.AppendVarint(dst, o.Time.UnixMilli())
	return append(binary.AppendUvarint(dst, how), key...)
}

func (o *Origin) len(ordering string) int {
	how, key := o.ownKey(ordering)
	return uvarintLen(zigzag(o.Offset)) + uvarintLen(zigzag(o.Time.UnixMilli())) + uvarintLen(how) + len(key)
}

func zigzag(v int64) uint64 { return uint64(v)<<1 ^ uint64(v>>63) }

// parseOrigin is the reverse of append.
func parseOrigin(in *block.Reader, ordering string) *Origin {
	o := &Origin{Offset: in.Int(), Time: time.UnixMilli(in.Int())}
	how := in.Uint()
	o.Keyed = how != originNoKey
	switch {
	case how == originOrderingKey:
		o.Key = ordering
	case how >= originKey:
		o.Key = in.Take(how - originKey)
	}
	return o
}
