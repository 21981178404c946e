package kafka

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kgo"

	"forebay/buffer"
	"forebay/ingress"
	"forebay/policies"
)

// The fields that tell a sink which record a message was.
const (
	sourceField    = "Forebay-Source"           // TOPIC/PARTITION/OFFSET
	keyField       = "Forebay-Source-Key"       // of a record that has one
	timeField      = "Forebay-Source-Time"      // the record's timestamp
	tombstoneField = "Forebay-Source-Tombstone" // true: its value was null
	namesField     = "Forebay-Source-Names"     // of its headers, those that are written in another way as fields
)

// timeFormat is RFC 3339 with milliseconds.
const timeFormat = "2006-01-02T15:04:05.000Z07:00"

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

// message makes one. It keeps the record's value.
func (m *maker) message(r *kgo.Record) (buffer.Message, *refusal) {
	if n := int64(len(r.Value)); n > m.stream.MaxMessageBytes {
		return buffer.Message{}, &refusal{"too-large", fmt.Sprintf("its value has %d bytes, max_message_bytes of stream %s is %d", n, m.stream.Name, m.stream.MaxMessageBytes)}
	}
	fields := m.fields(r)
	size := 0
	for _, f := range fields {
		size += len(f.Name) + len(f.Value)
	}
	if size > maxFields {
		return buffer.Message{}, &refusal{"headers-too-large", fmt.Sprintf("its key and headers have %d bytes, the most is %d", size, maxFields)}
	}
	msg := buffer.Message{Method: http.MethodPost, Target: m.path, Header: fields, Body: r.Value}
	field := func(name string) []string { return valuesOf(name, r, fields) }
	if !m.stream.OrderingKey.IsZero() {
		msg.Key, _ = m.stream.OrderingKey.Extract(field, r.Value)
	}
	msg.CancelKeys = m.stream.CancelKey.Extract(field, r.Value)
	return msg, nil
}

func valuesOf(name string, r *kgo.Record, fields []buffer.Field) (values []string) {
	if name == policies.RecordKey {
		if len(r.Key) == 0 {
			return nil
		}
		return []string{keyText(r.Key)}
	}
	for _, f := range fields {
		if f.Name == name {
			values = append(values, f.Value)
		}
	}
	return values
}

// fields are the record's headers as header fields, and what it was, by name.
func (m *maker) fields(r *kgo.Record) []buffer.Field {
	fields := make([]buffer.Field, 0, len(r.Headers)+4)
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
	if !typed && looksLikeJSON(r.Value) {
		fields = append(fields, buffer.Field{Name: "Content-Type", Value: "application/json"})
	}
	fields = append(fields, buffer.Field{Name: sourceField, Value: sourceOf(r)})
	if r.Key != nil {
		fields = append(fields, buffer.Field{Name: keyField, Value: fieldValue(r.Key)})
	}
	fields = append(fields, buffer.Field{Name: timeField, Value: timeText(r.Timestamp)})
	if r.Value == nil {
		fields = append(fields, buffer.Field{Name: tombstoneField, Value: "true"})
	}
	// Stable: values of one name keep their order.
	slices.SortStableFunc(fields, func(a, b buffer.Field) int { return strings.Compare(a.Name, b.Name) })
	return fields
}

// timeText is timeFormat, a record.
func timeText(t time.Time) string {
	t = t.UTC()
	if y := t.Year(); y < 1000 || y > 9999 {
		return t.Format(timeFormat)
	}
	b := t.AppendFormat(make([]byte, 0, len(timeFormat)), time.DateOnly)
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
		return string(value)
	}
	return bytesText(value)
}

func bytesText(value []byte) string { return ":" + base64.StdEncoding.EncodeToString(value) + ":" }

// keyText is a record's key as an ordering key, which people read.
func keyText(key []byte) string {
	if utf8.Valid(key) {
		return string(key)
	}
	return bytesText(key)
}

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

// refusedRecord is what becomes of a record that is refused: itself, with where it
// was and why.
func refusedRecord(r *kgo.Record, topic string, why *refusal, now time.Time) *kgo.Record {
	headers := append(slices.Clip(r.Headers),
		kgo.RecordHeader{Key: "forebay-source", Value: []byte(sourceOf(r))},
		kgo.RecordHeader{Key: "forebay-reason", Value: []byte(why.reason)},
		kgo.RecordHeader{Key: "forebay-detail", Value: []byte(why.detail)},
		kgo.RecordHeader{Key: "forebay-refused-at", Value: []byte(now.UTC().Format(timeFormat))},
	)
	return &kgo.Record{Topic: topic, Key: r.Key, Value: r.Value, Headers: headers, Timestamp: r.Timestamp}
}
