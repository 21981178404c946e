package policies

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"

	"forebay/limiter"
)

const (
	maxURLs        = 64
	maxAddresses   = 100
	minStatus      = 300
	maxStatus      = 599
	maxStatuses    = maxStatus - minStatus + 1
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

// sinkKinds are the kinds that this version does not have.
var sinkKinds = []string{"kafka", "elasticsearch", "webhdfs"}

var sinkSchema = schema[sinkDraft]{
	what: "a sink",
	preset: func(s *sinkDraft) {
		s.out.Budget = Budget{Limit: limiter.Limit{Rate: limiter.Unlimited}, Concurrency: 64}
		s.out.Breaker = Breaker{FailureRatio: 0.5, MinRequests: 50, Window: 30 * time.Second, OpenFor: 15 * time.Second}
		s.out.SlowStart = 10 * time.Second
	},
	fields: []field[sinkDraft]{
		nameField(func(s *sinkDraft) *text { return &s.name }),
		nested("http", &httpSchema, func(s *sinkDraft) *httpDraft { return &s.http }),
		nested("budget", &budgetSchema, func(s *sinkDraft) *Budget { return &s.out.Budget }),
		{name: "breaker", shape: shape{"anyOf": []shape{enumShape([]string{off}), breakerSchema.shape()}}, read: readBreaker},
		durationField("slow_start", 0, maxTimeout, func(s *sinkDraft) *time.Duration { return &s.out.SlowStart }),
	},
	later: append([]string{"may_cancel"}, sinkKinds...),
	check: func(v value, s *sinkDraft, keys keys) {
		if limit := &s.out.Budget.Limit; limit.Burst == 0 {
			limit.Burst = defaultBurst(limit.Rate)
		}
		if keys["http"] == nil && !keys.any(sinkKinds) {
			v.fail("add `http: { urls: [\"https://…\"] }`", "a sink has no http")
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
			read: func(v value, b *Breaker) { v.ratio(&b.FailureRatio) },
		},
		numberField("min_requests", 1, maxRequests, func(b *Breaker) *int { return &b.MinRequests }),
		durationField("window", minWindow, maxTimeout, func(b *Breaker) *time.Duration { return &b.Window }),
		durationField("open_for", minWindow, maxTimeout, func(b *Breaker) *time.Duration { return &b.OpenFor }),
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
		rateField("rate", func(b *Budget) *limiter.Rate { return &b.Limit.Rate }).such("100/s"),
		numberField("burst", 1, maxBurst, func(b *Budget) *int { return &b.Limit.Burst }),
		nested("concurrency", &concurrencySchema, func(b *Budget) *Budget { return b }),
	},
	later: []string{"reserve_for_live", "bytes", "scope", "on_store_error"},
}

var concurrencySchema = schema[Budget]{
	what: "concurrency",
	fields: []field[Budget]{
		numberField("max", 1, maxConcurrency, func(b *Budget) *int { return &b.Concurrency }).such("64"),
		{name: "mode", shape: enumShape([]string{"fixed"}), read: func(v value, _ *Budget) {
			v.choice([]string{"fixed"}, []string{"adaptive"})
		}},
	},
	later: []string{"min"},
}

type httpDraft struct {
	HTTPSink
	at []value // of the URLs
}

var httpSchema = schema[httpDraft]{
	what: "an http sink",
	preset: func(h *httpDraft) {
		h.ConnectTimeout, h.Timeout = 2*time.Second, 30*time.Second
		h.Permanent = []int{400, 401, 403, 404, 405, 409, 410, 413, 415, 422}
	},
	fields: []field[httpDraft]{
		{
			name: "urls", example: `["https://orders.internal"]`, required: true, read: readURLs,
			shape: listShape(patternShape("^[Hh][Tt][Tt][Pp][Ss]?://[^@?#]+$"), 1, maxURLs),
		},
		{name: "allow_addresses", shape: listShape(stringShape, 0, maxAddresses), read: readAddresses},
		nested("timeout", &timeoutSchema, func(h *httpDraft) *HTTPSink { return &h.HTTPSink }),
		{name: "permanent", shape: listShape(numberShape(minStatus, maxStatus), 0, maxStatuses), read: readPermanent},
	},
	later: []string{"balance", "auth", "sign", "batch", "preserve_host"},
	check: func(_ value, h *httpDraft, _ keys) {
		for i, u := range h.URLs {
			// A host name is judged when it is dialled.
			addr, err := netip.ParseAddr(u.Hostname())
			if err == nil && !h.MayDial(addr) {
				h.at[i].fail(fmt.Sprintf("if it is meant, write allow_addresses: [%q]", addr),
					"address %s is link-local, a metadata service or none at all", addr)
			}
		}
	},
}

func readURLs(v value, h *httpDraft) {
	seen := make(map[string]bool)
	v.list(maxURLs, func(item value) {
		s, ok := item.str()
		if !ok {
			return
		}
		u, message, hint := parseURL(s)
		if message != "" {
			item.fail(hint, "%s", message)
			return
		}
		if seen[u.String()] {
			item.fail("remove one", "url %s is listed twice", quote(s))
			return
		}
		seen[u.String()] = true
		h.URLs, h.at = append(h.URLs, u), append(h.at, item)
	})
	if v.emptyList() {
		v.fail("write at least one", "urls is empty")
	}
}

func readAddresses(v value, h *httpDraft) {
	v.list(maxAddresses, func(item value) {
		s, ok := item.str()
		if !ok {
			return
		}
		prefix, err := netip.ParsePrefix(s)
		if addr, addrErr := netip.ParseAddr(s); addrErr == nil && addr.Zone() == "" {
			prefix, err = netip.PrefixFrom(addr, addr.BitLen()), nil
		}
		if err != nil {
			item.fail("write 169.254.10.1 or 169.254.10.0/24", "%s is not an address or a range of them", quote(s))
			return
		}
		h.AllowAddresses = append(h.AllowAddresses, prefix.Masked())
	})
}

var timeoutSchema = schema[HTTPSink]{
	what: "timeout",
	fields: []field[HTTPSink]{
		durationField("connect", time.Millisecond, maxTimeout, func(h *HTTPSink) *time.Duration { return &h.ConnectTimeout }).such("2s"),
		durationField("total", time.Millisecond, maxTimeout, func(h *HTTPSink) *time.Duration { return &h.Timeout }),
	},
	check: func(v value, h *HTTPSink, keys keys) {
		// A total below the default of connect is no mistake: it bounds both.
		if keys["connect"] == nil {
			h.ConnectTimeout = min(h.ConnectTimeout, h.Timeout)
		}
		if h.ConnectTimeout > h.Timeout {
			value{v.decoder, keys["connect"], "connect"}.fail("total includes connecting: raise it, or lower connect",
				"connect %s is longer than total %s", formatDuration(h.ConnectTimeout), formatDuration(h.Timeout))
		}
	},
}

func readPermanent(v value, h *httpDraft) {
	h.Permanent = []int{}
	v.list(maxStatuses, func(item value) {
		status := 0
		item.number(&status, minStatus, maxStatus)
		if status == 0 {
			return
		}
		if slices.Contains(h.Permanent, status) {
			item.fail("remove one", "status %d is listed twice", status)
			return
		}
		h.Permanent = append(h.Permanent, status)
	})
}
