package kafka

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
	"unsafe"

	"github.com/twmb/franz-go/pkg/kgo"

	"forebay/buffer"
	"forebay/ingress"
	"forebay/policies"
)

const (
	tombstoneField = "Forebay-Source-Tombstone" // true: the record's value was null
	namesField     = "Forebay-Source-Names"     // of its headers, those that are written in another way as fields
)

// maxFields bounds the header fields of a message that a record makes, in bytes: sinks
// refuse a request with more.
const maxFields = 32 << 10

// refusal is why a record cannot be stored.
type refusal struct {
	reason string // too-large, headers-too-large
	detail string
}

// maker makes messages of records.
type maker struct {
	path   string
	stream *policies.Stream
	set    *policies.Set
}

// making makes the messages of one batch. They share the memory of their records, and
// those in a row with the same headers share their header fields.
type making struct {
	*maker
	head
	field func(name string) []string // of record, for keys

	record *kgo.Record
	msg    *buffer.Message
	one    [1]string
}

// head is what records in a row of one partition have in common.
type head struct {
	of       *kgo.Record // the first; nil: there was none
	jsonLike bool
	fields   []buffer.Field
	size     int // of the fields, in bytes
}

// originSize bounds what the origin's fields have beside the key, in bytes.
const originSize = 96

func (m *maker) batch() *making {
	k := &making{maker: m}
	k.field = k.valuesOf
	return k
}

// message makes msg and its origin of a record.
func (k *making) message(r *kgo.Record, msg *buffer.Message, origin *buffer.Origin) *refusal {
	if n := int64(len(r.Value)); n > k.stream.MaxMessageBytes {
		return &refusal{"too-large", fmt.Sprintf("its value has %d bytes, max_message_bytes of stream %s is %d", n, k.stream.Name, k.stream.MaxMessageBytes)}
	}
	if jsonLike := looksLikeJSON(r.Value); !k.fits(r, jsonLike) {
		k.head = k.headOf(r, jsonLike)
	}
	*origin = buffer.Origin{Offset: r.Offset, Time: r.Timestamp, Keyed: r.Key != nil, Key: fieldValue(r.Key)}
	if size := k.size + len(origin.Key) + originSize; size > maxFields {
		return &refusal{"headers-too-large", fmt.Sprintf("its key and headers have %d bytes, the most is %d", size, maxFields)}
	}
	*msg = buffer.Message{Method: http.MethodPost, Target: k.path, Header: k.fields, Body: r.Value, Origin: origin}
	k.record, k.msg = r, msg
	if !k.stream.OrderingKey.IsZero() {
		msg.Key, _ = k.stream.OrderingKey.Extract(k.field, r.Value)
	}
	msg.CancelKeys = k.stream.CancelKey.Extract(k.field, r.Value)
	return nil
}

// fits reports whether a record has the same head.
func (h *head) fits(r *kgo.Record, jsonLike bool) bool {
	return h.of != nil && h.jsonLike == jsonLike && (h.of.Value == nil) == (r.Value == nil) &&
		h.of.Partition == r.Partition && h.of.Topic == r.Topic &&
		slices.EqualFunc(h.of.Headers, r.Headers, func(a, b kgo.RecordHeader) bool { return a.Key == b.Key && bytes.Equal(a.Value, b.Value) })
}

// valuesOf are the values of a field of the record at hand, until the next call.
func (k *making) valuesOf(name string) (values []string) {
	if name == policies.RecordKey {
		if len(k.record.Key) == 0 {
			return nil
		}
		k.one[0] = keyText(k.record.Key)
		return k.one[:]
	}
	for _, f := range k.msg.Fields() {
		if f.Name == name {
			values = append(values, f.Value)
		}
	}
	return values
}

// headOf are the record's headers as header fields, and what it was, by name.
func (m *maker) headOf(r *kgo.Record, jsonLike bool) head {
	fields := make([]buffer.Field, 0, len(r.Headers)+3)
	typed := false
	for _, h := range r.Headers {
		name := fieldName(h.Key)
		if name == "" || m.set.HoldsKey(name) {
			continue
		}
		typed = typed || name == "Content-Type"
		fields = append(fields, buffer.Field{Name: name, Value: fieldValue(h.Value)})
	}
	if len(fields) > 0 {
		fields = ingress.Storable(fields)
	}
	if names := namesOf(r, fields); names != "" {
		fields = append(fields, buffer.Field{Name: namesField, Value: names})
	}
	if !typed && jsonLike {
		fields = append(fields, buffer.Field{Name: "Content-Type", Value: "application/json"})
	}
	fields = append(fields, buffer.Field{Name: buffer.SourceField, Value: partition{topic: r.Topic, n: r.Partition}.String()})
	if r.Value == nil {
		fields = append(fields, buffer.Field{Name: tombstoneField, Value: "true"})
	}
	// Stable: values of one name keep their order.
	slices.SortStableFunc(fields, func(a, b buffer.Field) int { return strings.Compare(a.Name, b.Name) })
	size := 0
	for _, f := range fields {
		size += len(f.Name) + len(f.Value)
	}
	return head{r, jsonLike, fields, size}
}

func sourceOf(r *kgo.Record) string {
	b := make([]byte, 0, len(r.Topic)+24)
	b = append(append(b, r.Topic...), '/')
	b = append(strconv.AppendInt(b, int64(r.Partition), 10), '/')
	return string(strconv.AppendInt(b, r.Offset, 10))
}

// namesOf are the names of a record's headers as they were, where its fields have them in
// another way: to a reader of Kafka eventType is not Eventtype. Those of CloudEvents and of
// traces are known.
func namesOf(r *kgo.Record, fields []buffer.Field) string {
	var names []string
	for _, h := range r.Headers {
		name := fieldName(h.Key)
		if name == h.Key || strings.HasPrefix(name, "Ce-") || name == "Traceparent" || name == "Tracestate" {
			continue
		}
		kept := slices.ContainsFunc(fields, func(f buffer.Field) bool { return f.Name == name })
		if key := escaped(h.Key); kept && !slices.Contains(names, key) {
			names = append(names, key)
		}
	}
	return strings.Join(names, ", ")
}

// fieldName is a header's name as that of a field: ce_type is Ce-Type, as CloudEvents
// have it, and a byte that no field's name has is written %20.
func fieldName(key string) string {
	if rest, ok := strings.CutPrefix(key, "ce_"); ok {
		key = "ce-" + rest
	}
	return textproto.CanonicalMIMEHeaderKey(escaped(key))
}

// escaped has no byte that no field's name has.
func escaped(key string) string {
	if strings.IndexFunc(key, func(c rune) bool { return !isToken(c) }) < 0 {
		return key
	}
	var b strings.Builder
	for i := range len(key) {
		if c := key[i]; isToken(rune(c)) {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// isToken reports whether a field's name may have c, RFC 9110 section 5.6.2.
func isToken(c rune) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c < utf8.RuneSelf && strings.IndexByte("!#$%&'*+-.^_`|~", byte(c)) >= 0
}

// fieldValue is a text as it stands where a field can hold it: visible ASCII, with
// spaces inside. Other bytes are those of a structured field, RFC 9651: between colons
// in base64.
func fieldValue(value []byte) string {
	plain := len(value) == 0 || value[0] != ' ' && value[len(value)-1] != ' '
	if len(value) > 1 && value[0] == ':' && value[len(value)-1] == ':' {
		plain = false // it would be taken for bytes
	}
	for i := 0; plain && i < len(value); i++ {
		plain = ' ' <= value[i] && value[i] <= '~'
	}
	if plain {
		return asText(value)
	}
	return bytesText(value)
}

func bytesText(value []byte) string { return ":" + base64.StdEncoding.EncodeToString(value) + ":" }

// keyText is a record's key as an ordering key, which people read.
func keyText(key []byte) string {
	if utf8.Valid(key) {
		return asText(key)
	}
	return bytesText(key)
}

// asText saves a copy of what a record holds, which nobody writes to.
func asText(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

func looksLikeJSON(value []byte) bool {
	for _, c := range value {
		switch c {
		case ' ', '\t', '\r', '\n':
		default:
			return c == '{' || c == '['
		}
	}
	return false
}

// refusedRecord is what becomes of a record that is refused: a copy, for its memory is used
// again, with where it was and why.
func refusedRecord(r *kgo.Record, topic string, why *refusal, now time.Time) *kgo.Record {
	headers := make([]kgo.RecordHeader, 0, len(r.Headers)+4)
	for _, h := range r.Headers {
		headers = append(headers, kgo.RecordHeader{Key: strings.Clone(h.Key), Value: bytes.Clone(h.Value)})
	}
	headers = append(headers,
		kgo.RecordHeader{Key: "forebay-source", Value: []byte(sourceOf(r))},
		kgo.RecordHeader{Key: "forebay-reason", Value: []byte(why.reason)},
		kgo.RecordHeader{Key: "forebay-detail", Value: []byte(why.detail)},
		kgo.RecordHeader{Key: "forebay-refused-at", Value: []byte(now.UTC().Format(buffer.SourceTimeFormat))},
	)
	return &kgo.Record{Topic: topic, Key: bytes.Clone(r.Key), Value: bytes.Clone(r.Value), Headers: headers, Timestamp: r.Timestamp}
}
