package policies

import (
	"strings"
	"time"
	"unicode"

	"forebay/limiter"
)

type drainDraft struct {
	name, stream, sink text
	schedule           scheduleDraft
	retry              Retry
}

var drainSchema = schema[drainDraft]{
	what: "a drain",
	preset: func(d *drainDraft) {
		d.schedule.base = limiter.Unlimited // the sink's budget paces it
		d.retry = Retry{
			MaxAttempts: 15, MaxAge: 24 * time.Hour,
			Initial: time.Second, Max: 10 * time.Minute,
			HonourRetryAfter: time.Hour,
		}
	},
	fields: []field[drainDraft]{
		{name: "name", required: true, read: func(v value, d *drainDraft) { v.id(&d.name) }},
		{name: "stream", example: "orders", required: true, read: func(v value, d *drainDraft) { v.ref(&d.stream) }},
		{name: "sink", example: "order-service", required: true, read: func(v value, d *drainDraft) { v.ref(&d.sink) }},
		{name: "schedule", read: func(v value, d *drainDraft) { scheduleSchema.read(v.as("a schedule"), &d.schedule) }},
		{name: "retry", read: func(v value, d *drainDraft) { retrySchema.read(v, &d.retry) }},
	},
	later: []string{"weight", "priority", "deadline", "from"},
}

type scheduleDraft struct {
	base    limiter.Rate
	entries []entryDraft
}

var scheduleSchema = schema[scheduleDraft]{
	what: "a schedule",
	fields: []field[scheduleDraft]{
		{name: "base", example: "100/s", required: true, read: func(v value, s *scheduleDraft) { v.rate(&s.base) }},
		{name: "entries", read: func(v value, s *scheduleDraft) { objects(v, &entrySchema, maxEntries, &s.entries) }},
	},
	later: []string{"floor"},
}

type entryDraft struct {
	name           text
	during, except []text
	rate           limiter.Rate
}

var entrySchema = schema[entryDraft]{
	what: "a schedule entry",
	fields: []field[entryDraft]{
		{name: "name", required: true, read: func(v value, e *entryDraft) { v.title(&e.name) }},
		{name: "during", example: "[night]", required: true, read: func(v value, e *entryDraft) {
			v.refs(maxRefs, &e.during)
			if v.emptyList() {
				v.fail("name the time intervals in which the entry holds", "%s is empty: the entry would never hold", v.name)
			}
		}},
		{name: "except", read: func(v value, e *entryDraft) { v.refs(maxRefs, &e.except) }},
		{name: "rate", example: "100/s", required: true, read: func(v value, e *entryDraft) { v.rate(&e.rate) }},
	},
	later: []string{"ramp"},
}

// title reads the name of an entry, which people read and nothing refers to: any
// printable text.
func (v value) title(to *text) {
	s, ok := v.str()
	if !ok {
		return
	}
	if s == base {
		v.fail("choose another name", "an entry cannot be named base: that is the rate while no entry holds")
		return
	}
	if strings.TrimSpace(s) != s || s == "" || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		v.fail("write a short phrase, such as night or protect the sale", "%s cannot name an entry", quote(s))
		return
	}
	if len(s) > maxNameBytes {
		v.fail("", "name %s is over %d bytes", quote(s), maxNameBytes)
		return
	}
	*to = text{s, v.place()}
}

var retrySchema = schema[Retry]{
	what: "retry",
	fields: []field[Retry]{
		{name: "max_attempts", example: "15", read: func(v value, r *Retry) { v.number(&r.MaxAttempts, 1, 1000) }},
		{name: "max_age", read: func(v value, r *Retry) { v.duration(&r.MaxAge, time.Second, maxPatience) }},
		{name: "backoff", read: readBackoff},
		{name: "honour_retry_after", read: func(v value, r *Retry) { v.duration(&r.HonourRetryAfter, time.Second, maxPatience) }},
	},
	later: []string{"budget"},
}

var backoffSchema = schema[Retry]{
	what: "backoff",
	fields: []field[Retry]{
		{name: "initial", example: "1s", read: func(v value, r *Retry) { v.duration(&r.Initial, time.Millisecond, maxPatience) }},
		{name: "max", read: func(v value, r *Retry) { v.duration(&r.Max, time.Millisecond, maxPatience) }},
	},
}

func readBackoff(v value, r *Retry) {
	keys := backoffSchema.read(v, r)
	if r.Max >= r.Initial {
		return
	}
	at := v
	if keys["initial"] != nil {
		at.node = keys["initial"]
	}
	at.fail("raise max, or lower initial", "backoff begins at %s, above its max of %s", formatDuration(r.Initial), formatDuration(r.Max))
}
