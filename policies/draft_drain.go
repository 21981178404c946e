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
	weight, priority   int
}

const maxWeight = 1000

// Where a drain that is new to its stream may start.
const (
	fromLatest = "latest"
	fromOldest = "oldest"
)

var drainSchema = schema[drainDraft]{
	what: "a drain",
	preset: func(d *drainDraft) {
		d.weight, d.priority = 1, defaultPriority
		d.schedule.base = limiter.Unlimited // the sink's budget paces it
		d.retry = Retry{
			MaxAttempts: 15, MaxAge: 24 * time.Hour,
			Initial: time.Second, Max: 10 * time.Minute,
			HonourRetryAfter: time.Hour, Budget: 0.2,
		}
	},
	fields: []field[drainDraft]{
		nameField(func(d *drainDraft) *text { return &d.name }).says("Unique among drains."),
		refField("stream", func(d *drainDraft) *text { return &d.stream }).must("orders").says("The stream that it reads."),
		refField("sink", func(d *drainDraft) *text { return &d.sink }).must("order-service").says("The sink that it delivers to."),
		choiceField("from", []string{fromLatest, fromOldest}, nil, func(d *drainDraft) *string { return &d.from }).
			says("Where a drain that is added later starts: the next message, or the oldest that is kept; default latest."),
		numberField("weight", 1, maxWeight, func(d *drainDraft) *int { return &d.weight }).
			says("What it has of its sink's budget while other drains wait for that too, to their weights; default 1."),
		priorityField("priority", func(d *drainDraft) *int { return &d.priority }).
			says("Which drain of a budget goes first; default 5.").later(absent),
		nested("schedule", &scheduleSchema, func(d *drainDraft) *scheduleDraft { return &d.schedule }).
			says("How fast, and when; default: as fast as the sink's budget allows."),
		nested("deadline", &deadlineSchema, func(d *drainDraft) *Deadline { return &d.deadline }).
			says("How long a message may wait for this drain."),
		nested("retry", &retrySchema, func(d *drainDraft) *Retry { return &d.retry }).
			says("How long and how often a message is tried again."),
	},
}

var deadlineSchema = schema[Deadline]{
	what:   "a deadline",
	preset: func(d *Deadline) { d.OnExpire = EndDead },
	fields: []field[Deadline]{
		durationField("max_delay", time.Second, maxPatience, func(d *Deadline) *time.Duration { return &d.MaxDelay }).must("60h").
			says("The age at which a message that is not delivered is late."),
		choiceField("on_expire", []Ending{EndDead, EndExpire, EndDeliver}, nil, func(d *Deadline) *Ending { return &d.OnExpire }).
			says("What becomes of it then; default dead."),
		durationField("urgent_before", time.Second, maxPatience, func(d *Deadline) *time.Duration { return &d.UrgentBefore }).
			says("How long before max_delay messages are urgent; not without urgent_rate."),
		rateField("urgent_rate", func(d *Deadline) *limiter.Rate { return &d.UrgentRate }).
			says("The least rate for what is urgent, which leaves first."),
	},
	check: func(v value, d *Deadline, keys keys) {
		urgent, rate := keys["urgent_before"], keys["urgent_rate"]
		switch {
		case urgent == nil && rate != nil:
			keys.at(v, "urgent_rate").fail("add `urgent_before: 12h`", "a deadline has urgent_rate and no urgent_before")
		case urgent != nil && rate == nil:
			keys.at(v, "urgent_before").fail("add `urgent_rate: 200/s`", "a deadline has urgent_before and no urgent_rate")
		case d.UrgentRate == 0 && rate != nil:
			keys.at(v, "urgent_rate").fail("write what the sink can take then, such as 200/s, or remove both", "an urgent_rate of 0 has no effect")
		case d.UrgentBefore > d.MaxDelay && d.MaxDelay > 0:
			keys.at(v, "urgent_before").fail("lower it, or raise max_delay", "urgent_before %s is longer than max_delay %s",
				formatDuration(d.UrgentBefore), formatDuration(d.MaxDelay))
		}
	},
}

type scheduleDraft struct {
	base    limiter.Rate
	floor   limiter.Rate
	entries []entryDraft
}

var scheduleSchema = schema[scheduleDraft]{
	what: "a schedule",
	fields: []field[scheduleDraft]{
		rateField("base", func(s *scheduleDraft) *limiter.Rate { return &s.base }).must("100/s").
			says("The rate while no entry holds."),
		rateField("floor", func(s *scheduleDraft) *limiter.Rate { return &s.floor }).
			says("The least rate, unless an entry says 0; default none."),
		listOf("entries", &entrySchema, maxEntries, func(s *scheduleDraft) *[]entryDraft { return &s.entries }).
			says("Rates over calendar time; the first whose interval is active holds."),
	},
	check: func(v value, s *scheduleDraft, keys keys) {
		if s.floor == limiter.Unlimited {
			keys.at(v, "floor").fail("write a rate, such as 20/s", "a floor of unlimited leaves nothing to schedule")
		}
	},
}

type entryDraft struct {
	name           text
	during, except []text
	rate           limiter.Rate
	ramp           time.Duration
}

var entrySchema = schema[entryDraft]{
	what: "a schedule entry",
	fields: []field[entryDraft]{
		{
			name: "name", about: "A short phrase, unique in its schedule.", required: true, shape: shape{"type": "string", "minLength": 1, "maxLength": maxNameBytes},
			read: func(v value, e *entryDraft) { v.title(&e.name) },
		},
		{
			name: "during", example: "[night]", required: true, shape: listShape(stringShape, 1, maxRefs),
			about: "The time intervals in which the entry holds.",
			read: func(v value, e *entryDraft) {
				v.refs(maxRefs, &e.during)
				if v.emptyList() {
					v.fail("name the time intervals in which the entry holds", "%s is empty: the entry would never hold", v.name)
				}
			},
		},
		refsField("except", 0, maxRefs, func(e *entryDraft) *[]text { return &e.except }).
			says("The time intervals in which it does not hold all the same."),
		rateField("rate", func(e *entryDraft) *limiter.Rate { return &e.rate }).must("100/s").
			says("The rate while the entry holds; 0 stops the drain."),
		durationField("ramp", time.Second, maxRamp, func(e *entryDraft) *time.Duration { return &e.ramp }).
			says("How long the rate rises at the entry's beginning and falls before its end; default: not at all."),
	},
	check: func(v value, e *entryDraft, keys keys) {
		switch {
		case keys["ramp"] == nil:
		case e.rate == limiter.Unlimited:
			keys.at(v, "ramp").fail("write the rate that it leads to", "a ramp cannot lead to an unlimited rate")
		case e.rate == 0 && keys["rate"] != nil:
			keys.at(v, "ramp").fail("remove it: an entry stops at once, and the one before it may have a ramp", "a ramp has no effect with rate: 0")
		}
	},
}

const maxRamp = 24 * time.Hour

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
		v.fail("write a short phrase", "name %s is over %d bytes", quote(s), maxNameBytes)
		return
	}
	*to = text{s, v.place()}
}

var retrySchema = schema[Retry]{
	what: "retry",
	fields: []field[Retry]{
		numberField("max_attempts", 1, 1000, func(r *Retry) *int { return &r.MaxAttempts }).such("15").
			says("Answers about a message before it is dead; default 15."),
		durationField("max_age", time.Second, maxPatience, func(r *Retry) *time.Duration { return &r.MaxAge }).
			says("From the first attempt until it is dead; default 24h."),
		nested("backoff", &backoffSchema, func(r *Retry) *Retry { return r }).
			says("The wait between two attempts: random, up to a bound that doubles."),
		durationField("honour_retry_after", time.Second, maxPatience, func(r *Retry) *time.Duration { return &r.HonourRetryAfter }).
			says("The longest pause that a sink can ask for; default 1h."),
		percentField("budget", func(r *Retry) *float64 { return &r.Budget }).
			says("The share of the rate that retries may take while first attempts wait; default 20%."),
	},
}

var backoffSchema = schema[Retry]{
	what: "backoff",
	fields: []field[Retry]{
		durationField("initial", time.Millisecond, maxPatience, func(r *Retry) *time.Duration { return &r.Initial }).such("1s").
			says("The longest wait after the first attempt; default 1s."),
		durationField("max", time.Millisecond, maxPatience, func(r *Retry) *time.Duration { return &r.Max }).
			says("The longest wait of all; default 10m."),
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
