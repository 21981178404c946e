package kafka

import (
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"

	"forebay/buffer"
	"forebay/drain"
)

// packer makes records of messages, one batch at a time. They hold copies of all that
// they have: a producer may still look at them when the attempt is over and the
// messages are the buffer's again.
type packer struct {
	recs    []kgo.Record
	headers []kgo.RecordHeader
	bytes   []byte

	// Of the headers that were made last:
	batch  int  // which is Forebay-Batch; -1: none
	traced bool // they came with a trace
}

// ownBytes is about what headers take that messages of a batch do not have in common.
const ownBytes = 192

// pack makes a record of each message. Those that it made before are lost.
func (p *packer) pack(topic string, msgs []drain.Delivery) []kgo.Record {
	size := 0
	for i := range msgs {
		size += len(msgs[i].Body) + len(msgs[i].Key) + ownBytes
	}
	p.bytes = slices.Grow(p.bytes[:0], size)
	clear(p.headers) // they refer to blocks
	p.headers = p.headers[:0]
	p.recs = slices.Grow(p.recs[:0], len(msgs))[:len(msgs)]
	for i := range msgs {
		m, r := &msgs[i], &p.recs[i]
		*r = kgo.Record{Topic: topic, Timestamp: m.AcceptedAt, Value: copyOf(p, m.Body)}
		if m.Key != "" {
			r.Key = copyOf(p, m.Key)
		}
		if i > 0 && alike(&msgs[i-1], m) {
			p.like(p.recs[i-1].Headers, &msgs[i-1], m, r)
		} else {
			p.fields(m, r)
		}
	}
	return p.recs
}

// copyOf never returns nil: a record without a value deletes, and an empty body does not.
func copyOf[T string | []byte](p *packer, s T) []byte {
	at := len(p.bytes)
	p.bytes = append(p.bytes, s...)
	return p.since(at)
}

// since is what was appended to the bytes.
func (p *packer) since(at int) []byte { return p.bytes[at:len(p.bytes):len(p.bytes)] }

// The last headers of every record, from the end. Before them is the trace of one that
// came without.
const (
	fromEndAccepted = 2
	fromEndID       = 4
	fromEndTrace    = 7
)

// alike reports whether two messages differ in no header but those that like sets.
func alike(a, b *drain.Delivery) bool {
	return len(a.Header) == len(b.Header) && (len(a.Header) == 0 || &a.Header[0] == &b.Header[0]) &&
		a.Origin == nil && b.Origin == nil && a.Batch == b.Batch && a.Method == b.Method && a.Target == b.Target &&
		a.Stream == b.Stream && a.Tries.Attempts == b.Tries.Attempts
}

// like has a record share the headers of the one before it, whose message is alike, but
// for those that are each message's own.
func (p *packer) like(headers []kgo.RecordHeader, before, m *drain.Delivery, r *kgo.Record) {
	at := len(p.headers)
	p.headers = append(p.headers, headers...)
	headers = p.headers[at:len(p.headers):len(p.headers)]
	if p.batch >= 0 {
		at = len(p.bytes)
		p.bytes = m.AppendPlace(p.bytes)
		headers[p.batch].Value = p.since(at)
	}
	n := len(headers)
	if !p.traced {
		headers[n-fromEndTrace].Value = p.trace(m.ID)
	}
	headers[n-fromEndID].Value = copyOf(p, m.ID)
	if !m.AcceptedAt.Equal(before.AcceptedAt) {
		at = len(p.bytes)
		p.bytes = m.AcceptedAt.UTC().AppendFormat(p.bytes, drain.TimeFormat)
		headers[n-fromEndAccepted].Value = p.since(at)
	}
	r.Headers = headers
}

func (p *packer) trace(id string) []byte {
	at := len(p.bytes)
	p.bytes = drain.AppendTraceparent(p.bytes, id)
	return p.since(at)
}

// fields become headers: the message's own, less what belongs to a connection, and
// ours. Their names are as in HTTP, but for those that consumers look for as Kafka has
// them: of a trace, and of CloudEvents. A message that was a record has its key again,
// no value where it had none, and the names and bytes of its headers.
func (p *packer) fields(m *drain.Delivery, r *kgo.Record) {
	at := len(p.headers)
	add := func(name string, value []byte) {
		p.headers = append(p.headers, kgo.RecordHeader{Key: name, Value: value})
	}
	fields := m.Fields()
	record := slices.ContainsFunc(fields, func(f buffer.Field) bool { return f.Name == "Forebay-Source" })
	names := namesOf(fields)
	p.batch, p.traced = -1, false
	for _, f := range fields {
		value := f.Value
		if record {
			value = plain(value)
		}
		switch name := f.Name; {
		case name == "Traceparent":
			p.traced = true
			add("traceparent", copyOf(p, value))
		case name == "Tracestate":
			add("tracestate", copyOf(p, value))
		case name == "Forebay-Batch" && m.Batch != "":
			p.batch = len(p.headers) - at
			add(name, copyOf(p, value))
		case name == "Forebay-Source-Key":
			r.Key = copyOf(p, value)
		case name == "Forebay-Source-Tombstone":
			r.Value = nil
		case name == namesField:
		case names[name] != "":
			add(names[name], copyOf(p, value))
		case strings.HasPrefix(name, "Ce-"):
			add("ce_"+strings.ToLower(name[len("Ce-"):]), copyOf(p, value))
		case !drain.OfConnection(name) && !ours(name):
			add(name, copyOf(p, value))
		}
	}
	if !p.traced {
		add("traceparent", p.trace(m.ID))
	}
	add("Forebay-Method", copyOf(p, m.Method))
	add("Forebay-Target", copyOf(p, m.Target))
	for _, f := range m.Ours() {
		add(f.Name, copyOf(p, f.Value))
	}
	r.Headers = p.headers[at:len(p.headers):len(p.headers)]
}

func ours(name string) bool {
	switch name {
	case "Forebay-Id", "Forebay-Attempt", "Forebay-Accepted-At", "Forebay-Stream", "Forebay-Method", "Forebay-Target":
		return true
	default:
		return false
	}
}
