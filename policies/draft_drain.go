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
	deadline           Deadline
	from               string
}

// Where a drain that is new to its stream may start.
const (
	fromLatest = "latest"
	fromOldest = "oldest"
)

var drainSchema = schema[drainDraft]{
	what: "a drain",
	preset: func(d *drainDraft) {
		d.schedule.base = limiter.Unlimited // the sink's budget paces it
		d.retry = Retry{
			MaxAttempts: 15, MaxAge: 24 * time.Hour,
			Initial: time.Second, Max: 10 * time.Minute,
			HonourRetryAfter: time.Hour, Budget: 0.2,
		}
	},
	fields: []field[drainDraft]{
		nameField(func(d *drainDraft) *text { return &d.name }),
		refField("stream", func(d *drainDraft) *text { return &d.stream }).must("orders"),
		refField("sink", func(d *drainDraft) *text { return &d.sink }).must("order-service"),
		choiceField("from", []string{fromLatest, fromOldest}, nil, func(d *drainDraft) *string { return &d.from }),
		nested("schedule", &scheduleSchema, func(d *drainDraft) *scheduleDraft { return &d.schedule }),
		nested("deadline", &deadlineSchema, func(d *drainDraft) *Deadline { return &d.deadline }),
		nested("retry", &retrySchema, func(d *drainDraft) *Retry { return &d.retry }),
	},
	later: []string{"weight", "priority"},
}

var deadlineSchema = schema[Deadline]{
	what:   "a deadline",
	preset: func(d *Deadline) { d.OnExpire = EndDead },
	fields: []field[Deadline]{
		durationField("max_delay", time.Second, maxPatience, func(d *Deadline) *time.Duration { return &d.MaxDelay }).must("60h"),
		choiceField("on_expire", []Ending{EndDead, EndExpire, EndDeliver}, nil, func(d *Deadline) *Ending { return &d.OnExpire }),
	},
	later: []string{"urgent_before", "urgent_rate"},
}

type scheduleDraft struct {
	base    limiter.Rate
	entries []entryDraft
}

var scheduleSchema = schema[scheduleDraft]{
	what: "a schedule",
	fields: []field[scheduleDraft]{
		rateField("base", func(s *scheduleDraft) *limiter.Rate { return &s.base }).must("100/s"),
		listOf("entries", &entrySchema, maxEntries, func(s *scheduleDraft) *[]entryDraft { return &s.entries }),
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
		{
			name: "name", required: true, shape: shape{"type": "string", "minLength": 1, "maxLength": maxNameBytes},
			read: func(v value, e *entryDraft) { v.title(&e.name) },
		},
		{
			name: "during", example: "[night]", required: true, shape: listShape(stringShape, 1, maxRefs),
			read: func(v value, e *entryDraft) {
				v.refs(maxRefs, &e.during)
				if v.emptyList() {
					v.fail("name the time intervals in which the entry holds", "%s is empty: the entry would never hold", v.name)
				}
			},
		},
		{
			name: "except", shape: listShape(stringShape, 0, maxRefs),
			read: func(v value, e *entryDraft) { v.refs(maxRefs, &e.except) },
		},
		rateField("rate", func(e *entryDraft) *limiter.Rate { return &e.rate }).must("100/s"),
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
		numberField("max_attempts", 1, 1000, func(r *Retry) *int { return &r.MaxAttempts }).such("15"),
		durationField("max_age", time.Second, maxPatience, func(r *Retry) *time.Duration { return &r.MaxAge }),
		nested("backoff", &backoffSchema, func(r *Retry) *Retry { return r }),
		durationField("honour_retry_after", time.Second, maxPatience, func(r *Retry) *time.Duration { return &r.HonourRetryAfter }),
		{name: "budget", shape: percentShape, read: func(v value, r *Retry) { v.percent(&r.Budget) }},
	},
}

var backoffSchema = schema[Retry]{
	what: "backoff",
	fields: []field[Retry]{
		durationField("initial", time.Millisecond, maxPatience, func(r *Retry) *time.Duration { return &r.Initial }).such("1s"),
		durationField("max", time.Millisecond, maxPatience, func(r *Retry) *time.Duration { return &r.Max }),
	},
	check: func(v value, r *Retry, keys keys) {
		if r.Max >= r.Initial {
			return
		}
		if keys["initial"] != nil {
			v.node = keys["initial"]
		}
		v.fail("raise max, or lower initial", "backoff begins at %s, above its max of %s", formatDuration(r.Initial), formatDuration(r.Max))
	},
}
