package elasticsearch

import (
	"bytes"
	"time"
	"unicode/utf8"

	"forebay/drain"
	"forebay/policies"
)

// maxKept bounds the memory of a body that is kept for the next one.
const maxKept = 16 << 20

// timeFormat is RFC 3339 with milliseconds.
const timeFormat = "2006-01-02T15:04:05.000Z07:00"

// bulk is the body of one or several requests.
type bulk struct {
	text []byte
	docs []doc
	index
}

// doc is a document: which message it is, and where in the text it ends.
type doc struct{ msg, end int }

// index is the name that documents of one day have, where it depends on nothing else.
type index struct {
	name        string
	from, until time.Time
}

func (b *bulk) reset() { b.text, b.docs = b.text[:0], b.docs[:0] }

// part is a range of a bulk's documents: one request.
type part struct {
	from, to int
	again    bool // they were sent before
}

func (p part) single() bool { return p.to-p.from == 1 }

func (p part) halves() []part {
	mid := (p.from + p.to) / 2
	return []part{{p.from, mid, true}, {mid, p.to, true}}
}

// parts cuts a bulk into requests of at most so many bytes, or with one document.
func (b *bulk) parts(most int64) (parts []part) {
	from, begin := 0, 0
	for i, d := range b.docs {
		if i > from && int64(d.end-begin) > most {
			parts = append(parts, part{from: from, to: i})
			from, begin = i, b.docs[i-1].end
		}
	}
	if from < len(b.docs) {
		parts = append(parts, part{from: from, to: len(b.docs)})
	}
	return parts
}

// body is the text of a part.
func (b *bulk) body(p part) []byte {
	begin := 0
	if p.from > 0 {
		begin = b.docs[p.from-1].end
	}
	return b.text[begin:b.docs[p.to-1].end]
}

// messages are those of a part, with what was left out between them.
func (b *bulk) messages(p part, msgs []drain.Delivery) []drain.Delivery {
	return msgs[b.docs[p.from].msg : b.docs[p.to-1].msg+1]
}

// all gives every document of some parts the same outcome.
func (b *bulk) all(parts []part, outs []drain.Outcome, out drain.Outcome) {
	for _, p := range parts {
		for _, d := range b.docs[p.from:p.to] {
			outs[d.msg] = out
		}
	}
}

// add appends a message: an action line and a document. fault says why it can be no
// document.
func (s *Sink) add(b *bulk, i int, m *drain.Delivery) (fault string) {
	if !utf8.Valid(m.Body) {
		return "invalid UTF-8: a document is text"
	}
	name, err := s.indexOf(b, m)
	if err != nil {
		return "index: " + err.Error()
	}
	b.text = append(b.text, `{"create":{"_index":"`...) // it needs no quoting
	b.text = append(b.text, name...)
	b.text = append(b.text, `","_id":`...)
	b.quote([]byte(idOf(m)))
	b.text = append(b.text, "}}\n"...)
	b.document(m, s.policy.DataStream)
	b.text = append(b.text, '\n')
	b.docs = append(b.docs, doc{i, len(b.text)})
	return ""
}

// idOf is the id of a message's document: the one its caller gave to it in a bulk request,
// else the message's.
func idOf(m *drain.Delivery) string {
	for _, f := range m.Header {
		if f.Name == policies.BulkID {
			return f.Value
		}
	}
	return m.ID
}

// indexOf is where a message goes.
func (s *Sink) indexOf(b *bulk, m *drain.Delivery) (string, error) {
	n := s.policy.Index
	at := m.AcceptedAt.In(s.policy.Location)
	if !n.OfMessage() && !at.Before(b.from) && at.Before(b.until) {
		return b.name, nil
	}
	name, err := n.Expand(at, header(m), m.Body)
	if err == nil && !n.OfMessage() {
		b.name = name
		b.from = time.Date(at.Year(), at.Month(), at.Day(), 0, 0, 0, 0, at.Location())
		b.until = time.Date(at.Year(), at.Month(), at.Day()+1, 0, 0, 0, 0, at.Location())
	}
	return name, err
}

func header(m *drain.Delivery) func(name string) []string {
	return func(name string) (values []string) {
		for _, f := range m.Fields() {
			if f.Name == name {
				values = append(values, f.Value)
			}
		}
		return values
	}
}

// document appends a message's body as one line. What is no JSON object becomes the
// message of one.
func (b *bulk) document(m *drain.Delivery, timed bool) {
	object, stamped := policies.JSONObject(m.Body, "@timestamp")
	if object && (stamped || !timed) {
		b.line(m.Body)
		return
	}
	b.text = append(b.text, `{"@timestamp":"`...)
	b.text = m.AcceptedAt.UTC().AppendFormat(b.text, timeFormat)
	b.text = append(b.text, '"')
	if object {
		b.members(m.Body)
		return
	}
	b.text = append(b.text, `,"message":`...)
	b.quote(m.Body)
	b.text = append(b.text, '}')
}

// members appends an object without its opening brace, behind another member.
func (b *bulk) members(object []byte) {
	i := 0
	for object[i] != '{' {
		i++
	}
	object = object[i+1:]
	for i = 0; isSpace(object[i]); i++ {
	}
	if object[i] != '}' {
		b.text = append(b.text, ',')
	}
	b.line(object[i:])
}

// line appends JSON. Its line breaks lie between tokens and are as good as spaces.
func (b *bulk) line(json []byte) {
	from := len(b.text)
	b.text = append(b.text, json...)
	if bytes.IndexByte(json, '\n') < 0 && bytes.IndexByte(json, '\r') < 0 {
		return
	}
	for i, c := range b.text[from:] {
		if c == '\n' || c == '\r' {
			b.text[from+i] = ' '
		}
	}
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

// quote appends UTF-8 text as a JSON string.
func (b *bulk) quote(text []byte) {
	const hex = "0123456789abcdef"
	b.text = append(b.text, '"')
	from := 0
	for i, c := range text {
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		b.text = append(b.text, text[from:i]...)
		from = i + 1
		switch c {
		case '"', '\\':
			b.text = append(b.text, '\\', c)
		case '\t':
			b.text = append(b.text, '\\', 't')
		case '\n':
			b.text = append(b.text, '\\', 'n')
		case '\r':
			b.text = append(b.text, '\\', 'r')
		default:
			b.text = append(b.text, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	b.text = append(b.text, text[from:]...)
	b.text = append(b.text, '"')
}
