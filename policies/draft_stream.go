package policies

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// maxKeyParts bounds the parts of an ordering key: each is looked for in every
// message.
const maxKeyParts = 8

type streamDraft struct {
	name text
	out  Stream
}

var streamSchema = schema[streamDraft]{
	what: "a stream",
	preset: func(s *streamDraft) {
		s.out = Stream{
			MaxMessageBytes: 1 << 20, KeepDelivered: 24 * time.Hour,
			Retention: 72 * time.Hour, OnRetention: EndDead,
			DeadKeep: 14 * 24 * time.Hour, DeadMaxBytes: 1 << 30,
		}
	},
	fields: []field[streamDraft]{
		nameField(func(s *streamDraft) *text { return &s.name }),
		sizeField("max_bytes", 1, math.MaxInt64, func(s *streamDraft) *int64 { return &s.out.MaxBytes }),
		sizeField("max_message_bytes", 1, maxMessageBytes, func(s *streamDraft) *int64 { return &s.out.MaxMessageBytes }),
		durationField("keep_delivered", time.Second, maxPatience, func(s *streamDraft) *time.Duration { return &s.out.KeepDelivered }),
		durationField("retention", time.Second, maxPatience, func(s *streamDraft) *time.Duration { return &s.out.Retention }),
		choiceField("on_retention", []Ending{EndDead, EndExpire}, nil, func(s *streamDraft) *Ending { return &s.out.OnRetention }),
		nested("dead", &deadSchema, func(s *streamDraft) *Stream { return &s.out }),
		{
			name: "ordering_key", shape: listShape(patternShape("^(json:/|header:.)"), 1, maxKeyParts),
			read: func(v value, s *streamDraft) { v.key(&s.out.OrderingKey) },
		},
		{
			name: "when_full", shape: enumShape([]string{"reject"}),
			// The only answer of this version, and so nothing to keep.
			read: func(v value, _ *streamDraft) { v.choice([]string{"reject"}, []string{"shed_lowest_priority"}) },
		},
	},
	later: []string{"cancel_key", "tenant", "priority", "keep_results_bytes"},
}

var deadSchema = schema[Stream]{
	what: "dead",
	fields: []field[Stream]{
		durationField("keep", time.Second, maxPatience, func(s *Stream) *time.Duration { return &s.DeadKeep }).such("14d"),
		sizeField("max_bytes", 1, math.MaxInt64, func(s *Stream) *int64 { return &s.DeadMaxBytes }),
	},
}

// key reads where the parts of a key are.
func (v value) key(to *Key) {
	var parts []keyPart
	v.list(maxKeyParts, func(item value) {
		s, ok := item.str()
		if !ok {
			return
		}
		p, ok := item.keyPart(s)
		if !ok {
			return
		}
		if slices.ContainsFunc(parts, p.equal) {
			item.fail("remove one", "%s is listed twice", quote(s))
			return
		}
		parts = append(parts, p)
	})
	if v.emptyList() {
		v.fail("leave it out where no order is to be kept", "%s is empty", v.name)
	}
	*to = Key{parts}
}

func (v value) keyPart(s string) (p keyPart, ok bool) {
	kind, place, _ := strings.Cut(s, ":")
	switch kind {
	case "json":
		p.pointer, ok = v.pointer(place)
	case "header":
		p.header, ok = v.header(place)
	case "kafka":
		v.notYet("a key from kafka")
	default:
		hint := `write "json:/customer_id" or "header:X-Customer-Id"`
		if strings.HasPrefix(s, "/") {
			hint = fmt.Sprintf("write %q", "json:"+s)
		}
		v.fail(hint, "%s is no place of a key", quote(s))
	}
	return p, ok
}

func (v value) pointer(s string) (pointer, bool) {
	p, ok := parsePointer(s)
	if len(s) > maxPath {
		v.fail("", "a JSON Pointer is too long")
		return nil, false
	}
	if !ok {
		hint := "~ is written ~0 there, and / in a name ~1"
		if !strings.HasPrefix(s, "/") {
			hint = fmt.Sprintf("write %q", "json:/"+strings.ReplaceAll(strings.TrimPrefix(s, "$."), ".", "/"))
		}
		v.fail(hint, "%s is not a JSON Pointer", quote(s))
		return nil, false
	}
	if slices.Contains(p, "*") {
		v.fail("name one element: json:/items/0/sku", "%s names several values, and an ordering key is one", quote(s))
		return nil, false
	}
	return p, true
}
