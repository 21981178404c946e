package policies

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"

	"forebay/limiter"
)

const (
	maxURLs        = 64
	maxAddresses   = 100
	maxStatuses    = 300
	maxConcurrency = 10000
	maxBurst       = math.MaxInt32
	maxTimeout     = time.Hour
)

type sinkDraft struct {
	name   text
	http   httpDraft
	budget Budget
}

// sinkKinds are the kinds that this version does not have.
var sinkKinds = []string{"kafka", "elasticsearch", "webhdfs"}

var sinkSchema = schema[sinkDraft]{
	what: "a sink",
	preset: func(s *sinkDraft) {
		s.budget = Budget{Limit: limiter.Limit{Rate: limiter.Unlimited}, Concurrency: 64}
	},
	fields: []field[sinkDraft]{
		{name: "name", required: true, read: func(v value, s *sinkDraft) { v.id(&s.name) }},
		{name: "http", read: func(v value, s *sinkDraft) { httpSchema.read(v.as("an http sink"), &s.http) }},
		{name: "budget", read: func(v value, s *sinkDraft) { budgetSchema.read(v.as("a budget"), &s.budget) }},
	},
	later: append([]string{"breaker", "slow_start", "may_cancel"}, sinkKinds...),
	check: func(v value, s *sinkDraft, keys keys) {
		if s.budget.Limit.Burst == 0 {
			s.budget.Limit.Burst = defaultBurst(s.budget.Limit.Rate)
		}
		if keys["http"] == nil && !keys.any(sinkKinds) {
			v.fail("add `http: { urls: [\"https://…\"] }`", "a sink has no http")
		}
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
		{name: "rate", example: "100/s", read: func(v value, b *Budget) { v.rate(&b.Limit.Rate) }},
		{name: "burst", read: func(v value, b *Budget) { v.number(&b.Limit.Burst, 1, maxBurst) }},
		{name: "concurrency", read: func(v value, b *Budget) { concurrencySchema.read(v, b) }},
	},
	later: []string{"reserve_for_live", "bytes", "scope", "on_store_error"},
}

var concurrencySchema = schema[Budget]{
	what: "concurrency",
	fields: []field[Budget]{
		{name: "max", example: "64", read: func(v value, b *Budget) { v.number(&b.Concurrency, 1, maxConcurrency) }},
		{name: "mode", read: func(v value, _ *Budget) {
			var mode string
			v.choice(&mode, []string{"fixed"}, []string{"adaptive"})
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
		{name: "urls", example: `["https://orders.internal"]`, required: true, read: readURLs},
		{name: "allow_addresses", read: readAddresses},
		{name: "timeout", read: func(v value, h *httpDraft) { readTimeout(v, &h.HTTPSink) }},
		{name: "permanent", read: readPermanent},
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
		{name: "connect", example: "2s", read: func(v value, h *HTTPSink) { v.duration(&h.ConnectTimeout, time.Millisecond, maxTimeout) }},
		{name: "total", read: func(v value, h *HTTPSink) { v.duration(&h.Timeout, time.Millisecond, maxTimeout) }},
	},
}

func readTimeout(v value, h *HTTPSink) {
	keys := timeoutSchema.read(v, h)
	// A total below the default of connect is no mistake: it bounds both.
	if keys["connect"] == nil {
		h.ConnectTimeout = min(h.ConnectTimeout, h.Timeout)
	}
	if h.ConnectTimeout > h.Timeout {
		value{v.decoder, keys["connect"], "connect"}.fail("total includes connecting: raise it, or lower connect",
			"connect %s is longer than total %s", formatDuration(h.ConnectTimeout), formatDuration(h.Timeout))
	}
}

func readPermanent(v value, h *httpDraft) {
	h.Permanent = []int{}
	v.list(maxStatuses, func(item value) {
		status := 0
		item.number(&status, 300, 599)
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
