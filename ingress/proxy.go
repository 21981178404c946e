package ingress

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"strconv"
	"strings"
	"sync"
	"time"

	"forebay/policies"
)

const (
	// maxHops is how often a request may pass through servers of our name.
	maxHops = 5
	// answerIdle is how long one write of an answer may take that is streamed, and
	// answerMark how often that is renewed.
	answerIdle = 30 * time.Second
	answerMark = time.Second
	// A long answer whose length is known is sent on at least every longFlush: of a
	// slow one the beginning does not wait until there is much of it.
	longAnswer = 16 << 10
	longFlush  = 100 * time.Millisecond
)

// live sends a request to the route's sink, at once or when its turn comes.
func (h *Handler) live(x *exchange, route *policies.Route, m *routeMetrics) outcome {
	limit := bodyLimit(route)
	if x.r.ContentLength > limit {
		return h.refuseLive(x, m, problemTooLarge(limit))
	}
	// Of a body that has come already it is known when its caller leaves.
	body := newLiveBody(x, limit)
	turn, decision, err := h.enter(x, route, m)
	if err != nil {
		return h.refuseLive(x, m, err)
	}
	defer turn.End()
	return h.relay(x, m, turn, body, decision)
}

// enter takes a request's turn. Where the route holds requests, it may wait.
func (h *Handler) enter(x *exchange, route *policies.Route, m *routeMetrics) (Turn, string, error) {
	if h.cfg.Live == nil {
		return nil, "", errors.New("route " + route.Name + ": there is no way to sinks")
	}
	turn, err := h.cfg.Live.Enter(x.r.Context(), route.Sink, route.Stream, x.r.ContentLength, 0)
	refused, ok := errors.AsType[*Refusal](err)
	if !ok || route.Mode == policies.ModePass {
		return turn, decisionPass, err
	}
	turn, err = h.await(x, route, m, refused)
	return turn, decisionHeld, err
}

// await waits for a request's turn: in number, in time and by a stop bounded.
func (h *Handler) await(x *exchange, route *policies.Route, m *routeMetrics, refused *Refusal) (Turn, error) {
	stopping := h.receipts.waits.serving
	if stopping.Err() != nil {
		return nil, problemUnavailable(reasonShuttingDown)
	}
	if m.held.Add(1) > int64(route.MaxWaiting) {
		m.held.Add(-1)
		return nil, problemHoldFull(refused, time.Now())
	}
	m.waiting.Inc()
	defer func() {
		m.held.Add(-1)
		m.waiting.Dec()
	}()
	ctx, cancel := context.WithCancel(x.r.Context())
	defer cancel()
	defer context.AfterFunc(stopping, cancel)()
	turn, err := h.cfg.Live.Enter(ctx, route.Sink, route.Stream, x.r.ContentLength, route.HoldUpTo)
	if err != nil && stopping.Err() != nil {
		return nil, problemUnavailable(reasonShuttingDown)
	}
	return turn, err
}

// refuseLive answers a request that has no answer of its sink's.
func (h *Handler) refuseLive(x *exchange, m *routeMetrics, err error) outcome {
	if x.r.Context().Err() != nil {
		return outcome{decisionError, statusClientClosed}
	}
	x.partIf(h.receipts.waits.stopped())
	o := h.fail(x, err)
	m.refused(problemOf(err).reason)
	return o
}

// relay sends a request whose turn it is, and its caller the answer.
func (h *Handler) relay(x *exchange, m *routeMetrics, turn Turn, body *liveBody, decision string) outcome {
	p := &passage{h: h, x: x, m: m, body: body, outcome: outcome{decision, 0}}
	defer body.end()
	out := x.r.WithContext(x.r.Context())
	out.Body, out.GetBody = body.open()
	// ReverseProxy forgets what stands here with an informational answer; answer
	// sets it in its place.
	delete(x.w.Header(), "X-Request-Id")
	delete(x.w.Header(), "Connection")
	p.proxy = httputil.ReverseProxy{
		Transport: turn, Rewrite: p.rewrite, ModifyResponse: p.answer, ErrorHandler: p.failed,
		BufferPool: &h.chunks, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug), // what it has to say is in the answer
	}
	p.serve(out)
	return p.outcome
}

// passage is one request on its way to a sink, and the answer on its way back.
type passage struct {
	h       *Handler
	x       *exchange
	m       *routeMetrics
	body    *liveBody
	proxy   httputil.ReverseProxy
	outcome outcome
}

// serve notes an answer that was cut off: its connection has to be, too.
func (p *passage) serve(r *http.Request) {
	w := &liveWriter{ResponseWriter: p.x.w, old: !r.ProtoAtLeast(1, 1)}
	ended := false
	defer func() {
		if ended {
			return
		}
		if v := recover(); v != http.ErrAbortHandler { //nolint:errorlint // as it was thrown
			panic(v)
		}
		p.x.cut = true
		if p.x.r.Context().Err() != nil {
			p.outcome = outcome{decisionError, statusClientClosed}
		}
	}()
	p.proxy.ServeHTTP(w, r.WithContext(served{r.Context()}))
	ended = true
}

// rewrite makes the request what the sink is to see.
func (p *passage) rewrite(r *httputil.ProxyRequest) {
	h := r.Out.Header
	for name := range h {
		if claimed(name) || secretField(name, p.x.policy) {
			delete(h, name)
		}
	}
	if p.x.spill != nil || !r.In.ProtoAtLeast(1, 1) || strings.EqualFold(h.Get("Upgrade"), "h2c") {
		// What may be stored is no tunnel, HTTP/1.0 has none, and whoever speaks HTTP/2 is past every route.
		delete(h, "Upgrade")
		delete(h, "Connection")
	}
	if p.body.whole {
		delete(h, "Expect") // it has come without waiting
	}
	p.forward(r)
	h["X-Request-Id"] = []string{p.x.id}
	h["Via"] = []string{via(r.In.Header["Via"])}
	hideFromTransport(h, "Idempotency-Key")
	hideFromTransport(h, "X-Idempotency-Key")
	r.Out.URL.RawQuery = r.In.URL.RawQuery // as it was sent
	p.body.trailer(r.In, r.Out)
}

// claimed reports whether a field is for us alone to send, or to be believed from
// trusted proxies alone.
func claimed(name string) bool {
	if strings.IndexByte(name, '_') >= 0 {
		return claimed(http.CanonicalHeaderKey(strings.ReplaceAll(name, "_", "-")))
	}
	switch name {
	case "Forwarded", "X-Real-Ip", "Http2-Settings":
		return true
	}
	return strings.HasPrefix(name, "X-Forwarded-") || strings.HasPrefix(name, "Forebay-")
}

// forward says who the caller is: what a trusted proxy says, and what we see.
func (p *passage) forward(r *httputil.ProxyRequest) {
	peer := peerOf(r.In)
	from := p.h.trusted.origin(r.In)
	hops := peer.String()
	if lines := r.In.Header["X-Forwarded-For"]; len(lines) > 0 && p.h.trusted.trust(peer) {
		hops = strings.Join(lines, ", ") + ", " + hops
	}
	if peer.IsValid() {
		r.Out.Header["X-Forwarded-For"] = []string{hops}
	}
	r.Out.Host = from.host // for a sink that is to see it
	r.Out.Header["X-Forwarded-Host"] = []string{from.host}
	r.Out.Header["X-Forwarded-Proto"] = []string{from.proto}
}

// hideFromTransport spells a field in lower case, which means the same to the
// sink. Where the transport finds the canonical spelling it writes a request
// again after a broken connection.
func hideFromTransport(h http.Header, name string) {
	if values, ok := h[name]; ok {
		delete(h, name)
		h[strings.ToLower(name)] = values
	}
}

// answer makes the sink's answer what the caller is to see.
func (p *passage) answer(resp *http.Response) error {
	status := resp.StatusCode
	if p.x.spill.busy(status) {
		return errBusy
	}
	if p.x.spill != nil {
		resp.Header.Add("Vary", "Prefer") // respond-async has another answer
	}
	for name := range resp.Header {
		if strings.HasPrefix(name, "Forebay-") {
			delete(resp.Header, name) // between the sink and us
		}
	}
	resp.Header["Via"] = []string{via(resp.Header["Via"])}
	resp.Header["X-Request-Id"] = []string{p.x.id}
	resp.Header["Proxy-Status"] = append(resp.Header["Proxy-Status"], proxyName+"; received-status="+strconv.Itoa(status))
	p.x.quota.tellBeside(resp.Header, status)
	p.x.unguessed()
	if p.h.receipts.waits.stopped() && status != http.StatusSwitchingProtocols {
		resp.Header["Connection"] = []string{"close"}
	}
	if status == http.StatusSwitchingProtocols {
		delete(p.x.w.Header(), "Connection") // a connection that is handed on says that it closes
	}
	if resp.ContentLength < 0 && status != http.StatusSwitchingProtocols {
		resp.Body = &trailed{resp.Body, resp}
	}
	if resp.ContentLength > longAnswer {
		p.proxy.FlushInterval = longFlush
	}
	p.outcome.code = status
	return nil
}

// failed answers a request to which the sink gave no answer.
func (p *passage) failed(_ http.ResponseWriter, _ *http.Request, err error) {
	if cause := p.body.fault(); cause != nil {
		err = cause // the request itself has no end
	}
	p.x.set("X-Request-Id", p.x.id)
	if p.x.r.Context().Err() == nil && p.x.spill.take(err) {
		return // it is to be stored, and is answered then
	}
	p.outcome = p.h.refuseLive(p.x, p.m, err)
}

// trailed keeps what is between the sink and us out of the trailer too.
type trailed struct {
	io.ReadCloser
	resp *http.Response
}

// Close implements io.Closer. It comes before the trailer is looked at.
func (t *trailed) Close() error {
	err := t.ReadCloser.Close()
	for name := range t.resp.Trailer {
		if strings.HasPrefix(name, "Forebay-") {
			delete(t.resp.Trailer, name)
		}
	}
	return err
}

// looped reports whether a request has come by here again and again.
func looped(r *http.Request) bool {
	hops := 0
	for _, line := range r.Header["Via"] {
		for hop := range strings.SplitSeq(line, ",") {
			fields := strings.Fields(hop)
			if len(fields) > 1 && strings.EqualFold(fields[1], proxyName) {
				hops++
			}
		}
	}
	return hops >= maxHops
}

// chunkPool lends the memory that answers are copied through.
type chunkPool struct{ pool sync.Pool }

const chunkBytes = 32 << 10

// Get implements httputil.BufferPool.
func (c *chunkPool) Get() []byte {
	if b, ok := c.pool.Get().(*[chunkBytes]byte); ok {
		return b[:]
	}
	return make([]byte, chunkBytes)
}

// Put implements httputil.BufferPool.
func (c *chunkPool) Put(b []byte) { c.pool.Put((*[chunkBytes]byte)(b)) }
