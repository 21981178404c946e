package ingress

import (
	"encoding/binary"
	"math"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"forebay/limiter"
	"forebay/policies"
)

// quota is what the limits of its route said to a request.
type quota struct {
	route   *routeLimits
	settled bool // they have all been asked, and their answer is counted
	grants  []grant
	few     [4]grant // so that grants are no allocation
}

type grant struct {
	limit *limit
	limiter.Decision
}

// limit asks the limits of a route that need no more than a request's header.
// All of them let it pass, or none has lost a token. The error is the problem
// to answer with.
func (h *Handler) limit(x *exchange, route *policies.Route) error {
	if len(route.Limits) == 0 {
		return nil
	}
	limits := h.limits.now.Load().routes[route.Name]
	if limits == nil {
		return nil // a reload has just taken the route away
	}
	x.quota = &quota{route: limits}
	x.quota.grants = x.quota.few[:0]
	if err := h.ask(x, limits.head, x.start, nil); err != nil || len(limits.body) > 0 {
		return err
	}
	x.quota.settle()
	return nil
}

// limitBody asks those that look into the body, before anything is done with
// it. It does nothing where there are none.
func (h *Handler) limitBody(x *exchange, body []byte) error {
	if x.quota == nil || x.quota.settled || len(x.quota.route.body) == 0 {
		return nil
	}
	if err := h.ask(x, x.quota.route.body, time.Now(), body); err != nil {
		return err
	}
	x.quota.settle()
	return nil
}

// ask takes a token of each limit. If one has none, all that were taken for
// this request go back.
func (h *Handler) ask(x *exchange, all []*limit, now time.Time, body []byte) error {
	q := x.quota
	ok := true
	var room [192]byte
	for _, l := range all {
		d := l.table.Take(now, h.limitKey(room[:0], l, x, body))
		q.grants = append(q.grants, grant{l, d})
		ok = ok && d.OK
	}
	if ok {
		return nil
	}
	for i := range q.grants {
		if g := &q.grants[i]; g.OK && g.Left < math.MaxInt {
			g.limit.table.Return(now, g.Decision)
			g.Left++
		}
	}
	if q.route.shadow {
		q.refused(func(l *limit) *atomic.Uint64 { return &l.shadowDenied })
		return nil
	}
	q.refused(func(l *limit) *atomic.Uint64 { return &l.denied })
	return q.problem()
}

// settle counts a request that has passed all that were asked. Call it when
// nobody is asked any more.
func (q *quota) settle() {
	if q == nil || q.settled {
		return
	}
	q.settled = true
	for i := range q.grants {
		q.grants[i].limit.allowed.Add(1)
	}
}

// refused counts a request for those that have no token for it.
func (q *quota) refused(counter func(*limit) *atomic.Uint64) {
	q.settled = true
	for i := range q.grants {
		if g := &q.grants[i]; !g.OK {
			counter(g.limit).Add(1)
		}
	}
}

// limitKey appends what tells the caller from others. Each part has its length
// before it, so that no two keys are written alike.
func (h *Handler) limitKey(b []byte, l *limit, x *exchange, body []byte) []byte {
	for i := range l.Key {
		switch k := &l.Key[i]; {
		case k.Word == policies.KeyPrincipal && x.principal != "":
			b = appendPart(append(b, 'p'), x.principal)
		case k.Word != "":
			b = appendAddress(append(b, 'a'), h.clientOf(x), l.IPv6Prefix)
		case k.Header != "":
			b = appendHeader(b, x.field(k.Header))
		default:
			value, _ := k.Body.Extract(x.field, body)
			b = appendPart(b, value)
		}
	}
	return b
}

func appendPart(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendHeader(b []byte, values []string) []byte {
	switch len(values) {
	case 0:
		return appendPart(b, "")
	case 1:
		return appendPart(b, strings.TrimSpace(values[0]))
	}
	return appendPart(b, strings.Join(values, ", "))
}

// appendAddress appends an address, of IPv6 the first bits.
func appendAddress(b []byte, a netip.Addr, bits int) []byte {
	if a.Is6() {
		if p, err := a.Prefix(bits); err == nil { // the policy allows 1 to 128
			a = p.Addr()
		}
	}
	raw := a.As16()
	return append(b, raw[:]...)
}

// clientOf is the caller's address, found once.
func (h *Handler) clientOf(x *exchange) netip.Addr {
	if !x.client.IsValid() {
		x.client = h.trusted.client(x.r)
	}
	return x.client
}
