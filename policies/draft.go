package policies

import (
	"math"
	"time"

	"go.yaml.in/yaml/v3"
)

// Bounds of the language. Whatever a policy makes the process hold has one.
const (
	maxObjects      = 2000 // routes, streams, drains and sinks together
	maxIntervals    = 500
	maxMessageBytes = 16 << 20
	maxEntries      = 100 // of a schedule
	maxRefs         = 20  // intervals of an entry
	maxPatience     = 366 * 24 * time.Hour
)

// draft is what the files say, before names are looked up.
type draft struct {
	intervals []intervalDraft
	sinks     []sinkDraft
	streams   []streamDraft
	drains    []drainDraft
	routes    []routeDraft
	// unread are the sections that are no lists: what they define is not known.
	unread map[string]bool
}

var policyFile = schema[draft]{
	what: "a policy",
	fields: []field[draft]{
		{name: "version", example: "1", required: true, read: func(v value, _ *draft) {
			if s, ok := v.word("1"); ok && s != "1" {
				v.fail("write version: 1", "version %s is not known", quote(s))
			}
		}},
		section("time_intervals", &intervalSchema, maxIntervals, func(d *draft) *[]intervalDraft { return &d.intervals }),
		section("sinks", &sinkSchema, maxObjects, func(d *draft) *[]sinkDraft { return &d.sinks }),
		section("streams", &streamSchema, maxObjects, func(d *draft) *[]streamDraft { return &d.streams }),
		section("drains", &drainSchema, maxObjects, func(d *draft) *[]drainDraft { return &d.drains }),
		section("routes", &routeSchema, maxObjects, func(d *draft) *[]routeDraft { return &d.routes }),
	},
	later: []string{"auth", "limits", "sources"},
}

// section is a list of objects at the top of a file.
func section[T any](name string, s *schema[T], limit int, of func(*draft) *[]T) field[draft] {
	return field[draft]{name: name, read: func(v value, d *draft) {
		if v.node.Kind != yaml.SequenceNode {
			d.unread[name] = true
		}
		objects(v, s, limit, of(d))
	}}
}

type streamDraft struct {
	name text
	out  Stream
}

var streamSchema = schema[streamDraft]{
	what: "a stream",
	preset: func(s *streamDraft) {
		s.out = Stream{MaxMessageBytes: 1 << 20, KeepDelivered: 24 * time.Hour}
	},
	fields: []field[streamDraft]{
		{name: "name", required: true, read: func(v value, s *streamDraft) { v.id(&s.name) }},
		{name: "max_bytes", read: func(v value, s *streamDraft) { v.size(&s.out.MaxBytes, 1, math.MaxInt64) }},
		{name: "max_message_bytes", read: func(v value, s *streamDraft) { v.size(&s.out.MaxMessageBytes, 1, maxMessageBytes) }},
		{name: "keep_delivered", read: func(v value, s *streamDraft) { v.duration(&s.out.KeepDelivered, time.Second, maxPatience) }},
	},
	later: []string{
		"retention", "when_full", "on_retention", "dead", "ordering_key", "cancel_key", "tenant", "priority",
		"keep_results_bytes",
	},
}
