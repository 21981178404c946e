package policies

import (
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
		{name: "version", example: "1", required: true, shape: shape{"enum": []any{1, "1"}}, read: func(v value, _ *draft) {
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
	f := listOf(name, s, limit, of)
	read := f.read
	f.read = func(v value, d *draft) {
		if v.node.Kind != yaml.SequenceNode {
			d.unread[name] = true
		}
		read(v, d)
	}
	return f
}
