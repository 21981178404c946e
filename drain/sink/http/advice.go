package http

import (
	"math"
	nethttp "net/http"
	"strings"
	"time"

	"forebay/drain"
	"forebay/limiter"
	"forebay/policies"
)

// The fields in the spelling of net/http.
const (
	rateField        = drain.RateField
	quotaField       = "Ratelimit"
	quotaPolicyField = "Ratelimit-Policy"
)

const (
	// maxAdvice bounds the bytes of a field that are looked at.
	maxAdvice = 4 << 10
	// longestQuota is where a quota's time is cut, long before it overflows.
	longestQuota = int64(maxRetryAfter / time.Second)
)

// advice is what the fields of an answer say of how much the sink takes, beside a
// Retry-After that can be read.
func advice(resp *nethttp.Response) []drain.Advice {
	all := askedRate(resp.Header)
	all = append(all, quotas(resp.Header)...)
	switch resp.StatusCode {
	case nethttp.StatusTooManyRequests, nethttp.StatusServiceUnavailable:
		if v := resp.Header.Get(drain.PauseField); v != "" && retryAfter(resp.Header, time.Now()) == 0 {
			all = append(all, drain.Advice{Field: drain.PauseField, Fault: "it is neither seconds nor a date"})
		}
	}
	return all
}

// askedRate reads Forebay-Rate, the least one where there are several.
func askedRate(h nethttp.Header) []drain.Advice {
	lines := h[rateField]
	if len(lines) == 0 {
		return nil
	}
	a := drain.Advice{Field: drain.RateField, Rate: limiter.Unlimited, Lasts: drain.RateLasts}
	for _, line := range lines {
		rate, err := policies.ParseRate(strings.TrimSpace(line))
		if err != nil {
			return []drain.Advice{{Field: drain.RateField, Fault: "it is not a rate such as 350/s"}}
		}
		a.Rate = min(a.Rate, rate)
	}
	return []drain.Advice{a}
}

// quotas reads RateLimit of draft-ietf-httpapi-ratelimit-headers-11: the longest of
// those that are used up, and the lowest rate of the others.
func quotas(h nethttp.Header) (all []drain.Advice) {
	if len(h[quotaField]) == 0 {
		return nil
	}
	ignored := func(field, fault string) drain.Advice { return drain.Advice{Field: field, Fault: fault} }
	items, ok := list(h[quotaField])
	if !ok {
		return append(all, ignored(drain.QuotaField, "it is not a list of items"))
	}
	known, ok := list(h[quotaPolicyField])
	if !ok {
		all = append(all, ignored(drain.QuotaField, "its policy is not a list of items"))
	}
	var used, left drain.Advice
	for _, i := range items {
		a, says, fault := quota(i, known)
		switch {
		case fault != "":
			all = append(all, ignored(drain.QuotaField, fault))
		case !says:
		case a.Rate == 0 && a.Lasts > used.Lasts:
			used = a
		case a.Rate > 0 && (left.Lasts == 0 || a.Rate < left.Rate):
			left = a
		}
	}
	for _, a := range []drain.Advice{used, left} {
		if a.Lasts > 0 {
			all = append(all, a)
		}
	}
	return all
}

// quota reads one item. Where it has no time, its policy's window is taken.
func quota(i item, policy []item) (a drain.Advice, says bool, fault string) {
	r, ok := i.number("r")
	if !ok {
		return a, false, "an item has no r that is a whole number"
	}
	t, has := i.params["t"]
	for _, p := range policy {
		if p.name != i.name {
			continue
		}
		if unit, ok := p.params["qu"]; ok && unit != "requests" {
			return a, false, "" // bytes, say
		}
		if !has {
			t, has = p.params["w"]
		}
	}
	seconds, whole := t.(int64)
	switch {
	case has && (!whole || seconds < 0):
		return a, false, "an item has a t that is no whole number"
	case !has && r > 0:
		return a, false, ""
	}
	seconds = max(1, min(seconds, longestQuota))
	a = drain.Advice{Field: drain.QuotaField, Lasts: time.Duration(seconds) * time.Second}
	a.Rate = limiter.Rate(math.Min(float64(r)/float64(seconds), float64(limiter.Unlimited)))
	return a, true, ""
}
