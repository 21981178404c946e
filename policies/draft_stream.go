package policies

import (
	"math"
	"time"
)

// Priorities of messages and drains: a higher one goes first.
const (
	minPriority     = 0
	maxPriority     = 9
	defaultPriority = 5
)

type streamDraft struct {
	name text
	out  Stream
}

var streamSchema = schema[streamDraft]{
	what: "a stream",
	preset: func(s *streamDraft) {
		s.out = Stream{
			MaxMessageBytes: 1 << 20, KeepDelivered: 24 * time.Hour, KeepResultsBytes: 1 << 30,
			Retention: 72 * time.Hour, OnRetention: EndDead, WhenFull: FullReject,
			DeadKeep: 14 * 24 * time.Hour, DeadMaxBytes: 1 << 30,
			Priority: Priority{Default: defaultPriority},
		}
	},
	fields: []field[streamDraft]{
		nameField(func(s *streamDraft) *text { return &s.name }).says("Unique among streams."),
		sizeField("max_bytes", 1, math.MaxInt64, func(s *streamDraft) *int64 { return &s.out.MaxBytes }).
			says("What unfinished messages may hold, as stored; default: the disk's bound alone."),
		sizeField("max_message_bytes", 1, maxMessageBytes, func(s *streamDraft) *int64 { return &s.out.MaxMessageBytes }).
			says("A longer message is refused with 413; default 1MiB, at most 16MiB."),
		durationField("keep_delivered", time.Second, maxPatience, func(s *streamDraft) *time.Duration { return &s.out.KeepDelivered }).
			says("How long the receipt of a finished message can be read; default 24h."),
		sizeField("keep_results_bytes", 1, math.MaxInt64, func(s *streamDraft) *int64 { return &s.out.KeepResultsBytes }).
			says("What stored answers of sinks may hold: the newest are kept; default 1GiB."),
		durationField("retention", time.Second, maxPatience, func(s *streamDraft) *time.Duration { return &s.out.Retention }).
			says("The age at which what is unfinished ends as on_retention says; default 72h."),
		choiceField("on_retention", []Ending{EndDead, EndExpire}, nil, func(s *streamDraft) *Ending { return &s.out.OnRetention }).
			says("How a message ends at that age; default dead."),
		nested("dead", &deadSchema, func(s *streamDraft) *Stream { return &s.out }).
			says("How long and how many dead letters are kept, apart from max_bytes."),
		keyField("ordering_key", func(s *streamDraft) *Key { return &s.out.OrderingKey }).
			says("Where the key is; messages of one key are delivered in the order in which they came. Several places are a tuple."),
		{
			name: "cancel_key", shape: keyShape,
			about: "Where the keys are by which a message can be cancelled; default: the ordering key. * stands for every element or member.",
			read:  func(v value, s *streamDraft) { s.out.CancelKey = CancelKeys{v.keyParts(true)} },
		},
		keyField("tenant", func(s *streamDraft) *Key { return &s.out.Tenant }).
			says("Where the tenant is; tenants share a drain fairly.").later(absent),
		nested("priority", &prioritySchema, func(s *streamDraft) *Priority { return &s.out.Priority }).
			says("Which messages go first.").later(absent),
		choiceField("when_full", []Fullness{FullReject}, []Fullness{FullShed}, func(s *streamDraft) *Fullness { return &s.out.WhenFull }).
			says("What becomes of new messages when the stream is full; default reject: 503."),
	},
}

var deadSchema = schema[Stream]{
	what: "dead",
	fields: []field[Stream]{
		durationField("keep", time.Second, maxPatience, func(s *Stream) *time.Duration { return &s.DeadKeep }).such("14d").
			says("How long a dead letter is kept; default 14d."),
		sizeField("max_bytes", 1, math.MaxInt64, func(s *Stream) *int64 { return &s.DeadMaxBytes }).
			says("What dead letters may hold; at it the stream takes nothing in. Default 1GiB."),
	},
}

func priorityField[T any](name string, of func(*T) *int) field[T] {
	return numberField(name, minPriority, maxPriority, of).such("5")
}

var prioritySchema = schema[Priority]{
	what:   "priority",
	preset: func(p *Priority) { p.Default = defaultPriority },
	fields: []field[Priority]{
		priorityField("default", func(p *Priority) *int { return &p.Default }).
			says("The priority of a message that names none; default 5."),
		{
			name: "header", shape: stringShape, about: "The header field that names a message's priority.",
			read: func(v value, p *Priority) {
				if s, ok := v.str(); ok {
					p.Header, _ = v.fieldName(s)
				}
			},
		},
		{
			name: "allowed", shape: listShape(numberShape(minPriority, maxPriority), 1, maxPriority-minPriority+1),
			about: "The priorities that callers may name.",
			read: func(v value, p *Priority) {
				v.list(maxPriority-minPriority+1, func(item value) {
					n := -1
					if item.number(&n, minPriority, maxPriority); n >= minPriority {
						p.Allowed = append(p.Allowed, n)
					}
				})
			},
		},
	},
	check: func(v value, p *Priority, keys keys) {
		if keys["allowed"] != nil && keys["header"] == nil {
			keys.at(v, "allowed").fail("add `header: Forebay-Priority`", "priority has allowed and no header to name one in")
		}
	},
}
