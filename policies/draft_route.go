package policies

import (
	"slices"
	"time"
)

const (
	maxWait        = time.Hour
	defaultMaxBody = 1 << 20
	maxInflated    = 32 << 20 // half of what appends may hold in memory
	maxResult      = 1 << 20
	maxWaiting     = 1_000_000
	maxLiveBody    = 1 << 40 // of what is passed on as it comes
	maxRouteRefs   = 20
)

type routeDraft struct {
	name, stream, sink text
	waitFor            text
	auth, limits       []text
	enforcement        string
	timing             string
	match              place
	matches            bool // match has no mistake
	idempotency        place
	out                Route
}

var routeSchema = schema[routeDraft]{
	what: "a route",
	preset: func(r *routeDraft) {
		r.out = Route{
			MaxBody: defaultMaxBody, WaitMax: 30 * time.Second, MaxInflated: maxInflated,
			Idempotency: Idempotency{Header: "Idempotency-Key", TTL: 24 * time.Hour},
			HoldUpTo:    time.Second, MaxWaiting: 1000,
		}
	},
	fields: []field[routeDraft]{
		nameField(func(r *routeDraft) *text { return &r.name }).says("Unique among routes."),
		{
			name: "match", about: "Which requests; {} is all of them.", example: "{ methods: [POST], path: /v1/orders }",
			required: true, shape: matchSchema.shape(),
			read: func(v value, r *routeDraft) {
				before := v.found.count()
				matchSchema.read(v, &r.out)
				r.match, r.matches = v.place(), v.found.count() == before
			},
		},
		refsField("auth", 1, maxRouteRefs, func(r *routeDraft) *[]text { return &r.auth }).
			says("Ways to show who one is, of which a caller needs one."),
		refsField("limits", 1, maxRouteRefs, func(r *routeDraft) *[]text { return &r.limits }).
			says("Limits, all of which hold."),
		choiceField("enforcement", []string{"enforce", "shadow"}, nil, func(r *routeDraft) *string { return &r.enforcement }).
			says("Whether limits are enforced, or only counted; default enforce."),
		choiceField("mode", []Mode{ModeBuffer, ModePass, ModeHold, ModeOverflow}, nil, func(r *routeDraft) *Mode { return &r.out.Mode }).must("buffer").
			says("What happens to a request; buffer: store, then answer 202; pass: send to the sink; hold: wait for the sink, then send; overflow: send while there is room, else store."),
		refField("stream", func(r *routeDraft) *text { return &r.stream }).such("orders").says("The stream that it is stored in."),
		refField("sink", func(r *routeDraft) *text { return &r.sink }).such("order-service").
			says("The sink that live requests go to, with mode: pass, hold or overflow."),
		durationField("hold_up_to", 0, maxWait, func(r *routeDraft) *time.Duration { return &r.out.HoldUpTo }).
			says("How long a request waits for the sink, with mode: hold or overflow; default 1s."),
		numberField("max_waiting", 1, maxWaiting, func(r *routeDraft) *int { return &r.out.MaxWaiting }).
			says("How many requests wait so; default 1000."),
		sizeField("max_body", 1, maxLiveBody, func(r *routeDraft) *int64 { return &r.out.MaxBody }).
			says("A longer body is refused with 413; default 1MiB, at most 16MiB where it is stored."),
		durationField("wait_max", 0, maxWait, func(r *routeDraft) *time.Duration { return &r.out.WaitMax }).
			says("The longest Prefer: wait=N that is honoured; default 30s."),
		refField("wait_for", func(r *routeDraft) *text { return &r.waitFor }).
			says("The drain whose end Prefer: wait=N waits for; default: all of them."),
		choiceField("split", []Split{splitNone, SplitNDJSON, SplitJSONArray, SplitLines, SplitBulk}, nil, func(r *routeDraft) *Split { return &r.out.Split }).
			says("What of a body is a message; default none: all of it."),
		sizeField("max_inflated", 1, maxInflated, func(r *routeDraft) *int64 { return &r.out.MaxInflated }).
			says("What a compressed body that is split may hold; default 32MiB."),
		{
			name: "idempotency", about: "How a request that is sent again is known.", shape: idempotencySchema.shape(),
			read: func(v value, r *routeDraft) {
				idempotencySchema.read(v, &r.out.Idempotency)
				r.idempotency = v.place()
			},
		},
		nested("store_result", &storeResultSchema, func(r *routeDraft) *int64 { return &r.out.StoreResult }).
			says("Keeps the sink's answer for the receipt; default: its status alone."),
		choiceField("timing", []string{"allowed"}, nil, func(r *routeDraft) *string { return &r.timing }).
			says("allowed: callers may send Forebay-Deliver-After and Forebay-Deadline; default: both are dropped."),
	},
	check: func(v value, r *routeDraft, keys keys) {
		if r.out.Split == splitNone {
			r.out.Split = SplitNone
		}
		r.out.Shadow, r.out.Timing = r.enforcement == "shadow", r.timing != ""
		checkMode(v, r.out.Mode, keys)
		if keys["enforcement"] != nil && keys["limits"] == nil {
			keys.at(v, "enforcement").fail("add limits, or remove it", "enforcement has no effect without limits")
		}
		if r.out.Mode == ModeOverflow && r.out.Split != SplitNone {
			keys.at(v, "split").fail("remove it, or use mode: buffer", "mode: overflow sends a request as it came, and cannot split it")
		}
		if r.out.Split == SplitBulk {
			checkBulk(v, &r.out, keys)
		}
		if live := r.out.Mode == ModePass || r.out.Mode == ModeHold; !live && r.out.MaxBody > maxMessageBytes {
			keys.at(v, "max_body").fail("write at most 16MiB: what is stored is one message", "max_body is larger than any message")
		}
	},
}

// splitNone is how a policy writes SplitNone.
const splitNone Split = "none"

// modeKeys are the keys that some modes need and others have no use for.
var modeKeys = []struct {
	name, sample string
	needed, idle []Mode
}{
	{"stream", "`stream: orders`", []Mode{ModeBuffer, ModeOverflow}, []Mode{ModePass, ModeHold}},
	{"sink", "`sink: order-service`", []Mode{ModePass, ModeHold, ModeOverflow}, []Mode{ModeBuffer}},
	{"hold_up_to", "", nil, []Mode{ModeBuffer, ModePass}},
	{"max_waiting", "", nil, []Mode{ModeBuffer, ModePass}},
	{"split", "", nil, []Mode{ModePass, ModeHold}},
	{"max_inflated", "", nil, []Mode{ModePass, ModeHold, ModeOverflow}},
	{"store_result", "", nil, []Mode{ModePass, ModeHold}},
	{"wait_max", "", nil, []Mode{ModePass, ModeHold}},
	{"wait_for", "", nil, []Mode{ModePass, ModeHold}},
}

func checkMode(v value, mode Mode, keys keys) {
	for _, k := range modeKeys {
		switch has := keys[k.name] != nil; {
		case !has && slices.Contains(k.needed, mode):
			v.fail("add "+k.sample, "a route with mode: %s has no %s", mode, k.name)
		case has && slices.Contains(k.idle, mode):
			keys.at(v, k.name).fail("remove it", "%s has no effect with mode: %s", k.name, mode)
		}
	}
}

var idempotencySchema = schema[Idempotency]{
	what: "idempotency",
	fields: []field[Idempotency]{
		{
			name: "header", example: "Idempotency-Key", shape: stringShape, about: "The field that holds the key; default Idempotency-Key.",
			read: func(v value, i *Idempotency) {
				if s, ok := v.str(); ok {
					i.Header, _ = v.header(s)
				}
			},
		},
		booleanField("required", func(i *Idempotency) *bool { return &i.Required }).such("true").
			says("Whether a request without a key is refused with 400; default false."),
		durationField("ttl", time.Second, maxPatience, func(i *Idempotency) *time.Duration { return &i.TTL }).
			says("How long the first answer is given again; default 24h."),
	},
}

var storeResultSchema = schema[int64]{
	what:   "store_result",
	fields: []field[int64]{sizeField("max_bytes", 1, maxResult, func(n *int64) *int64 { return n }).must("64KiB").says("How much of it.")},
}
