package kafka

import (
	"net/textproto"

	"github.com/twmb/franz-go/pkg/kgo"

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
		recs[i] = kgo.Record{Topic: topic, Timestamp: m.AcceptedAt, Value: copyOf(&p, m.Body), Headers: p.fields(m)}
		if m.Key != "" {
			recs[i].Key = copyOf(&p, m.Key)
		}
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

// fields are the message's own, less what belongs to a connection, and ours. Their
// names are as in HTTP, but for those of a trace, which consumers look for in small
// letters.
func (p *packer) fields(m drain.Delivery) []kgo.RecordHeader {
	at, traced := len(p.headers), false
	add := func(name, value string) {
		p.headers = append(p.headers, kgo.RecordHeader{Key: name, Value: copyOf(p, value)})
	}
	for _, f := range m.Fields() {
		switch name := textproto.CanonicalMIMEHeaderKey(f.Name); {
		case name == "Traceparent":
			traced = true
			add("traceparent", f.Value)
		case name == "Tracestate":
			add("tracestate", f.Value)
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
	return p.headers[at:len(p.headers):len(p.headers)]
}

func ours(name string) bool {
	switch name {
	case "Forebay-Id", "Forebay-Attempt", "Forebay-Accepted-At", "Forebay-Stream", "Forebay-Method", "Forebay-Target":
		return true
	default:
		return false
	}
}
