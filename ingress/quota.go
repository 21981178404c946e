package ingress

import (
	"cmp"
	"math"
	"net/http"
	"slices"
	"strconv"
	"time"

	"forebay/limiter"
)

// What callers are told of the limits on them, as RateLimit-Policy and RateLimit
// of draft-ietf-httpapi-ratelimit-headers-11 have it.

// maxStructured is the largest integer of RFC 9651.
const maxStructured = 999_999_999_999_999

// policyField is RateLimit-Policy: what each limit allows, the most restrictive
// first. A caller has q requests at once, and again after w seconds.
func policyField(all []*limit) string {
	all = slices.DeleteFunc(slices.Clone(all), func(l *limit) bool { return l.Limit.Limit.Rate == limiter.Unlimited })
	slices.SortStableFunc(all, func(a, b *limit) int {
		return cmp.Or(cmp.Compare(a.Limit.Limit.Rate, b.Limit.Limit.Rate), cmp.Compare(a.Limit.Limit.Burst, b.Limit.Limit.Burst))
	})
	var b []byte
	for _, l := range all {
		b = appendItem(b, l.Name)
		if l.Limit.Limit.Rate == 0 {
			b = append(b, ";q=0"...)
			continue
		}
		b = strconv.AppendInt(append(b, ";q="...), int64(l.Limit.Limit.Burst), 10)
		b = strconv.AppendInt(append(b, ";w="...), refill(l.Limit.Limit.Burst, l.Limit.Limit.Rate), 10)
	}
	return string(b)
}

// appendItem begins an item; names of limits need no escapes.
func appendItem(b []byte, name string) []byte {
	if len(b) > 0 {
		b = append(b, ", "...)
	}
	return append(append(append(b, '"'), name...), '"')
}

// refill is how many seconds a bucket takes for n tokens, 1 at least.
func refill(n int, rate limiter.Rate) int64 {
	return int64(min(max(1, math.Ceil(float64(n)/float64(rate))), maxStructured))
}

const (
	policyFieldName = "Ratelimit-Policy"
	leftFieldName   = "Ratelimit"
)

// tell puts the fields about limits on an answer of our own.
func (q *quota) tell(x *exchange, status int) {
	if q.tells(status) {
		x.set(policyFieldName, q.route.policy)
		x.set(leftFieldName, q.field())
	}
}

// tellBeside puts them on an answer of a sink's, whose own stay: both are lists.
func (q *quota) tellBeside(h http.Header, status int) {
	if q.tells(status) {
		h[policyFieldName] = append([]string{q.route.policy}, h[policyFieldName]...)
		h[leftFieldName] = append([]string{q.field()}, h[leftFieldName]...)
	}
}

// tells reports whether an answer has them. A redirection is to be followed at
// once.
func (q *quota) tells(status int) bool {
	return q != nil && q.route.policy != "" && status >= 200 && (status < 300 || 400 <= status)
}

// field is RateLimit: what each limit that was asked has left, the most
// restrictive first.
func (q *quota) field() string {
	slices.SortStableFunc(q.grants, func(a, b grant) int {
		return cmp.Or(cmp.Compare(a.rank(), b.rank()), cmp.Compare(a.Left, b.Left), cmp.Compare(b.Wait, a.Wait))
	})
	denied := !q.grants[0].OK
	var room [128]byte
	b := room[:0]
	for i := range q.grants {
		g := &q.grants[i]
		if g.Left == math.MaxInt {
			continue
		}
		b = strconv.AppendInt(append(appendItem(b, g.limit.Name), ";r="...), int64(g.Left), 10)
		if t := g.window(); t > 0 && !(denied && g.OK) {
			b = strconv.AppendInt(append(b, ";t="...), t, 10)
		}
	}
	return string(b)
}

// rank puts who refused first.
func (g grant) rank() int {
	if g.OK {
		return 1
	}
	return 0
}

// window is for how many seconds a caller can count on no more than what is left:
// until there is a token where none is, else so long that what is left, spread
// over it, is no more than the rate. On a refusal the others have none: it could
// be longer than Retry-After. 0 where the rate is 0.
func (g *grant) window() int64 {
	switch {
	case g.Left > 0:
		return refill(g.Left, g.limit.Limit.Limit.Rate)
	case g.Wait == limiter.Never:
		return 0
	}
	return seconds(g.Wait)
}

// seconds rounds up.
func seconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }

// problem says which limits have no token, and when all of them will have one.
func (q *quota) problem() *problem {
	var names []string
	var wait int64
	never := false
	for i := range q.grants {
		g := &q.grants[i]
		if g.OK {
			continue
		}
		names = append(names, g.limit.Name)
		if g.Wait == limiter.Never {
			never = true
			continue
		}
		wait = max(wait, seconds(g.Wait))
	}
	if never {
		wait = 0 // no retry helps
	}
	return problemQuota(names, int(min(wait, math.MaxInt32)))
}
