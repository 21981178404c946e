package policies

import (
	"math"
	"time"

	"go.yaml.in/yaml/v3"

	"forebay/limiter"
)

const (
	maxConcurrency = 10000
	maxBurst       = math.MaxInt32
	maxTimeout     = time.Hour
	maxRequests    = 1_000_000 // that a breaker waits for
	minWindow      = 100 * time.Millisecond
)

type sinkDraft struct {
	name text
	http httpDraft
	out  Sink
}

// builtKinds is the hint to the kinds of sinks that this version does not have.
const builtKinds = "use http or kafka: this version delivers to nothing else"

var sinkSchema = schema[sinkDraft]{
	what:  "a sink",
	oneOf: []string{"http", "kafka", "elasticsearch", "webhdfs"},
	preset: func(s *sinkDraft) {
		s.out.Budget = Budget{
			Limit: limiter.Limit{Rate: limiter.Unlimited}, Concurrency: 64, Mode: ConcurrencyFixed,
			Scope: ScopeLocal, OnStoreError: StoreLocal,
		}
		s.out.Breaker = Breaker{FailureRatio: 0.5, MinRequests: 50, Window: 30 * time.Second, OpenFor: 15 * time.Second}
		s.out.SlowStart = 10 * time.Second
	},
	fields: []field[sinkDraft]{
		nameField(func(s *sinkDraft) *text { return &s.name }).says("Unique among sinks."),
		nested("http", &httpSchema, func(s *sinkDraft) *httpDraft { return &s.http }).such(`{ urls: ["https://…"] }`).
			says("A service that takes messages as HTTP requests."),
		optional("kafka", &kafkaSchema, func(s *sinkDraft) **KafkaSink { return &s.out.Kafka }).
			such(`{ brokers: ["kafka-1:9093"], topic: registrations.v1 }`).says("A Kafka topic."),
		optional("elasticsearch", &elasticsearchSchema, func(s *sinkDraft) **ElasticsearchSink { return &s.out.Elasticsearch }).
			says("An Elasticsearch index.").later(builtKinds),
		optional("webhdfs", &webHDFSSchema, func(s *sinkDraft) **WebHDFSSink { return &s.out.WebHDFS }).
			says("Files on HDFS.").later(builtKinds),
		nested("budget", &budgetSchema, func(s *sinkDraft) *Budget { return &s.out.Budget }).
			says("What the sink can take, from all of its drains and live traffic together."),
		{
			name: "breaker", shape: shape{"anyOf": []shape{enumShape([]string{off}), breakerSchema.shape()}}, read: readBreaker,
			about: "Stops attempts while the sink fails; off: never.",
		},
		durationField("slow_start", 0, maxTimeout, func(s *sinkDraft) *time.Duration { return &s.out.SlowStart }).
			says("How long the rate rises after the breaker has closed; default 10s."),
		booleanField("may_cancel", func(s *sinkDraft) *bool { return &s.out.MayCancel }).
			says("Whether its answers may cancel waiting messages with Forebay-Cancel-Key; default false."),
	},
	check: func(v value, s *sinkDraft, keys keys) {
		if limit := &s.out.Budget.Limit; limit.Burst == 0 {
			limit.Burst = defaultBurst(limit.Rate)
			if limit.Rate != limiter.Unlimited {
				limit.Burst = max(limit.Burst, Sink{HTTP: &s.http.HTTPSink, Elasticsearch: s.out.Elasticsearch}.Batched())
			}
			if limit.Burst == 1 && limit.Rate != limiter.Unlimited && s.out.Budget.ReserveForLive > 0 {
				keys.at(v, "budget").fail("add burst: 2 or more: "+parted, "a budget with reserve_for_live has a burst of 1")
			}
		}
		if keys["http"] == nil && s.out.MayCancel {
			keys.at(v, "may_cancel").fail("remove it: only answers of an http sink have header fields", "a sink without http cannot cancel")
		}
	},
}

// off is the breaker of a sink that has none.
const off = "off"

func readBreaker(v value, s *sinkDraft) {
	if v.node.Kind == yaml.MappingNode {
		breakerSchema.read(v.as(breakerSchema.what), &s.out.Breaker)
		return
	}
	if v.node.Kind != yaml.ScalarNode || v.node.Value != off {
		v.fail("write `breaker: off`, or keys with values such as `open_for: 15s`", "breaker cannot be %s", kind(v.node))
		return
	}
	s.out.Breaker = Breaker{}
}

var breakerSchema = schema[Breaker]{
	what: "a breaker",
	fields: []field[Breaker]{
		{
			name: "failure_ratio", example: "0.5", shape: shape{"type": "number", "exclusiveMinimum": 0, "maximum": 1},
			about: "It opens once this share of attempts failed; default 0.5.",
			read:  func(v value, b *Breaker) { v.ratio(&b.FailureRatio) },
		},
		numberField("min_requests", 1, maxRequests, func(b *Breaker) *int { return &b.MinRequests }).
			says("Of at least so many attempts; default 50."),
		durationField("window", minWindow, maxTimeout, func(b *Breaker) *time.Duration { return &b.Window }).
			says("In so much time; default 30s."),
		durationField("open_for", minWindow, maxTimeout, func(b *Breaker) *time.Duration { return &b.OpenFor }).
			says("Nothing is sent for so long, then single probes; default 15s."),
	},
}

// defaultBurst is 10 ms of the rate, the least that keeps a rate through the
// granularity of timers.
func defaultBurst(r limiter.Rate) int {
	if r == limiter.Unlimited {
		return 1
	}
	return max(1, int(r/100))
}

var budgetSchema = schema[Budget]{
	what: "a budget",
	fields: []field[Budget]{
		rateField("rate", func(b *Budget) *limiter.Rate { return &b.Limit.Rate }).such("100/s").
			says("Attempts a second; default unlimited. 0 lets nothing through."),
		numberField("burst", 1, maxBurst, func(b *Budget) *int { return &b.Limit.Burst }).
			says("Attempts that may start at once; default 10 ms of the rate, and at least one batch."),
		{
			name: "bytes", shape: shape{"type": []string{"integer", "string"}, "minimum": 1, "pattern": byteRateForm},
			about: "Bytes of bodies a second, drained and live; default: no bound.", example: "40MiB/s",
			read: func(v value, b *Budget) { v.byteRate(&b.Bytes) },
		},
		nested("concurrency", &concurrencySchema, func(b *Budget) *Budget { return b }).
			says("Attempts in flight."),
		percentField("reserve_for_live", func(b *Budget) *float64 { return &b.ReserveForLive }).
			says("The share of rate, burst and slots that is live traffic's while it comes; default: drains and live traffic that waits share half and half."),
		scopeField(func(b *Budget) *Scope { return &b.Scope }),
		storeErrorField(func(b *Budget) *StoreError { return &b.OnStoreError }),
	},
	check: func(v value, b *Budget, keys keys) {
		checkStoreError(v, b.Scope, keys)
		if keys["reserve_for_live"] != nil && b.Limit.Burst == 1 {
			keys.at(v, "burst").fail("write burst: 2 or more: "+parted, "a budget with reserve_for_live has a burst of 1")
		}
	},
}

// parted says why reserve_for_live takes a burst of 2.
const parted = "live traffic and drains have a part of it each"

var concurrencySchema = schema[Budget]{
	what: "concurrency",
	fields: []field[Budget]{
		numberField("max", 1, maxConcurrency, func(b *Budget) *int { return &b.Concurrency }).such("64").
			says("The most attempts in flight; default 64."),
		numberField("min", 1, maxConcurrency, func(b *Budget) *int { return &b.MinConcurrency }).such("4").
			says("The least that mode: adaptive goes down to; default 1."),
		choiceField("mode", []ConcurrencyMode{ConcurrencyFixed, ConcurrencyAdaptive}, nil, func(b *Budget) *ConcurrencyMode { return &b.Mode }).
			says("Whether max holds always, or falls with the sink's latency; default fixed."),
	},
	check: func(v value, b *Budget, keys keys) {
		switch {
		case keys["min"] == nil && b.Mode == ConcurrencyAdaptive:
			b.MinConcurrency = 1
		case keys["min"] == nil:
		case b.Mode != ConcurrencyAdaptive:
			keys.at(v, "min").fail("remove it: max alone holds with mode: fixed", "min has no effect without mode: adaptive")
		case b.MinConcurrency > b.Concurrency:
			keys.at(v, "min").fail("raise max, or lower min", "concurrency has a min of %d above its max of %d", b.MinConcurrency, b.Concurrency)
		}
	},
}
