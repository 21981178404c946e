package kafka

import (
	"encoding/base64"
	"net/textproto"
	"net/url"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"

	"forebay/buffer"
	"forebay/drain"
)

// records are what messages become. They hold copies of all that they have: a
// producer may still look at them when the attempt is over and the messages are the
// buffer's again.
func records(topic string, msgs []drain.Delivery) []kgo.Record {
	size, headers := 0, 0
	for _, m := range msgs {
		size += len(m.Body) + len(m.Key) + ourBytes + len(m.Method) + len(m.Target)
		for _, f := range m.Header {
			size += len(f.Value)
		}
		headers += len(m.Header) + ourFields
	}
	p := packer{bytes: make([]byte, 0, size), headers: make([]kgo.RecordHeader, 0, headers)}
	recs := make([]kgo.Record, len(msgs))
	for i, m := range msgs {
		r := &recs[i]
		r.Topic, r.Timestamp, r.Value = topic, m.AcceptedAt, copyOf(&p, m.Body)
		if m.Key != "" {
			r.Key = copyOf(&p, m.Key)
		}
		p.fields(m, r)
	}
	return recs
}

const (
	ourFields = 8   // of a record, at most
	ourBytes  = 256 // that those have, but for method and target
)

// packer puts many small things into few allocations.
type packer struct {
	bytes   []byte
	headers []kgo.RecordHeader
}

// copyOf never returns nil: a record without a value deletes, and an empty body does not.
func copyOf[T string | []byte](p *packer, s T) []byte {
	at := len(p.bytes)
	p.bytes = append(p.bytes, s...)
	return p.bytes[at:len(p.bytes):len(p.bytes)]
}

// fields become headers: the message's own, less what belongs to a connection, and
// ours. Their names are as in HTTP, but for those that consumers look for as Kafka has
// them: of a trace, and of CloudEvents. A message that was a record has its key again,
// no value where it had none, and the names and bytes of its headers.
func (p *packer) fields(m drain.Delivery, r *kgo.Record) {
	at, traced := len(p.headers), false
	add := func(name, value string) {
		p.headers = append(p.headers, kgo.RecordHeader{Key: name, Value: copyOf(p, value)})
	}
	fields := m.Fields()
	record := slices.ContainsFunc(fields, func(f buffer.Field) bool { return f.Name == "Forebay-Source" })
	names := namesOf(fields)
	for _, f := range fields {
		if record {
			f.Value = plain(f.Value)
		}
		switch name := f.Name; {
		case name == "Traceparent":
			traced = true
			add("traceparent", f.Value)
		case name == "Tracestate":
			add("tracestate", f.Value)
		case name == "Forebay-Source-Key":
			r.Key = copyOf(p, f.Value)
		case name == "Forebay-Source-Tombstone":
			r.Value = nil
		case name == namesField:
		case names[name] != "":
			add(names[name], f.Value)
		case strings.HasPrefix(name, "Ce-"):
			add("ce_"+strings.ToLower(name[len("Ce-"):]), f.Value)
		case !drain.OfConnection(name) && !ours(name):
			add(f.Name, f.Value)
		}
	}
	if !traced {
		add("traceparent", m.Traceparent())
	}
	add("Forebay-Method", m.Method)
	add("Forebay-Target", m.Target)
	for _, f := range m.Ours() {
		add(f.Name, f.Value)
	}
	r.Headers = p.headers[at:len(p.headers):len(p.headers)]
}

// namesField has the names of a record's headers as they were, with bytes that no
// field's name has as %20.
const namesField = "Forebay-Source-Names"

// namesOf are those names, by that of the field.
func namesOf(fields []buffer.Field) map[string]string {
	i := slices.IndexFunc(fields, func(f buffer.Field) bool { return f.Name == namesField })
	if i < 0 {
		return nil
	}
	names := make(map[string]string)
	for name := range strings.SplitSeq(fields[i].Value, ", ") {
		if was, err := url.PathUnescape(name); err == nil {
			names[textproto.CanonicalMIMEHeaderKey(name)] = was
		}
	}
	return names
}

// plain is what a source wrote as a byte sequence, since a field cannot hold it, or
// the value itself.
func plain(value string) string {
	if len(value) < 2 || value[0] != ':' || value[len(value)-1] != ':' {
		return value
	}
	bytes, err := base64.StdEncoding.DecodeString(value[1 : len(value)-1])
	if err != nil {
		return value
	}
	return string(bytes)
}

func ours(name string) bool {
	switch name {
	case "Forebay-Id", "Forebay-Attempt", "Forebay-Accepted-At", "Forebay-Stream", "Forebay-Method", "Forebay-Target":
		return true
	default:
		return false
	}
}
