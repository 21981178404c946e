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
	sources   []sourceDraft
	auth      []authDraft
	limits    []limitDraft
	// unread are the sections that are no lists: what they define is not known.
	unread map[string]bool
}

var policyFile = schema[draft]{
	what: "a policy",
	fields: []field[draft]{
		{
			name: "version", about: "Of the language: 1.", example: "1", required: true, shape: shape{"enum": []any{1, "1"}},
			read: func(v value, _ *draft) {
				if s, ok := v.word("1"); ok && s != "1" {
					v.fail("write version: 1", "version %s is not known", quote(s))
				}
			},
		},
		section("time_intervals", &intervalSchema, maxIntervals, func(d *draft) *[]intervalDraft { return &d.intervals }).
			says("Named stretches of calendar time."),
		section("auth", &authSchema, maxAuth, func(d *draft) *[]authDraft { return &d.auth }).
			says("How callers show who they are."),
		section("limits", &limitSchema, maxLimits, func(d *draft) *[]limitDraft { return &d.limits }).
			says("What callers may send: token buckets by key."),
		section("sinks", &sinkSchema, maxObjects, func(d *draft) *[]sinkDraft { return &d.sinks }).
			says("What is delivered to, and how much it can take."),
		section("streams", &streamSchema, maxObjects, func(d *draft) *[]streamDraft { return &d.streams }).
			says("Where messages wait, durably."),
		section("drains", &drainSchema, maxObjects, func(d *draft) *[]drainDraft { return &d.drains }).
			says("Who reads a stream, when and how fast."),
		section("sources", &sourceSchema, maxSources, func(d *draft) *[]sourceDraft { return &d.sources }).
			says("What feeds a stream besides routes."),
		section("routes", &routeSchema, maxObjects, func(d *draft) *[]routeDraft { return &d.routes }).
			says("Which requests, and what happens to them."),
	},
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
