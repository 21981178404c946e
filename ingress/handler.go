package ingress

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"forebay/buffer"
	"forebay/policies"
)

const (
	defaultWaitMax    = 30 * time.Second
	defaultMaxWaiting = 1000
	defaultBodyMemory = 256 << 20

	reservedPrefix = "/.forebay/"
	receiptsPrefix = reservedPrefix + "receipts/"
)

// Buffer is what ingress needs of the durable log. All of it is safe for
// concurrent use.
type Buffer interface {
	// Append returns once msgs are durable; see buffer.Buffer.
	Append(ctx context.Context, stream string, now time.Time, msgs []buffer.Message) (buffer.Accepted, error)
	buffer.Once
	buffer.Receipts
	buffer.Live
}

// Config is what a Handler works with. Buffer and Policy are required.
type Config struct {
	Buffer Buffer
	// Policy returns the running policy, never nil. It is called once per
	// request and must not block.
	Policy func() *policies.Set
	// ETA estimates when a message with so many ahead of it leaves through a
	// drain, which is not before due. A zero eta means that no rate is in sight, and note says why. It is
	// called for every accepted message and must not block. Nil: no estimates.
	ETA func(drain string, now, due time.Time, ahead uint64) (eta, p90 time.Time, note string)
	// Feasible reports whether n more messages of a stream leave before they are late,
	// and otherwise from when on they would; a zero again means that this is not in
	// sight. It is called before messages are stored and must not block. Nil: all are.
	Feasible func(stream string, now time.Time, n int) (again time.Time, ok bool)
	// WaitMax caps what Prefer: wait=N may ask for, beside a route's own
	// wait_max. 0: 30 s.
	WaitMax time.Duration
	// MaxWaiting bounds the requests that wait for a final state at any time;
	// those beyond it are answered at once. 0: 1000.
	MaxWaiting int
	// MaxBodyMemory bounds, in bytes, the memory of all bodies over 16 KiB that
	// are being read or stored, and of the messages they are split into; a
	// request that needs more is answered 503 overloaded. 0: 256 MiB.
	MaxBodyMemory int64
	// Live is the way to sinks. Nil: routes that need one answer 500, and those with
	// mode: overflow store.
	Live Live
	// Closed reports whether a stream's intake is closed, and the operator's
	// reason, which callers are not told. It is called once per request and must
	// not block. Nil: no stream is ever closed.
	Closed func(stream string) (reason string, closed bool)
	// TrustedProxies are believed in what X-Forwarded-For, -Host and -Proto say.
	// None: the caller is who holds the connection.
	TrustedProxies []netip.Prefix
}

func (c Config) withDefaults() Config {
	if c.WaitMax <= 0 {
		c.WaitMax = defaultWaitMax
	}
	if c.MaxWaiting <= 0 {
		c.MaxWaiting = defaultMaxWaiting
	}
	if c.MaxBodyMemory <= 0 {
		c.MaxBodyMemory = defaultBodyMemory
	}
	if c.ETA == nil {
		c.ETA = func(_ string, _, _ time.Time, _ uint64) (eta, p90 time.Time, note string) { return }
	}
	if c.Feasible == nil {
		c.Feasible = func(string, time.Time, int) (again time.Time, ok bool) { return time.Time{}, true }
	}
	if c.Closed == nil {
		c.Closed = func(string) (string, bool) { return "", false }
	}
	return c
}

// Handler serves the routes of the policy, and receipts under
// /.forebay/receipts/. It is safe for concurrent use.
type Handler struct {
	cfg       Config
	trusted   proxies
	limits    *callerLimits
	log       *failureLog
	metrics   *metrics
	receipts  *Receipts
	bodies    bodyMemory
	inflaters chan *inflater // those not at work
	scratch   sync.Pool      // of *scratch
	chunks    chunkPool
	claims    claims
}

// New returns a Handler that serves cfg.Policy. It starts nothing. With a nil
// registerer the metrics are kept but not registered.
func New(cfg Config, log *slog.Logger, reg prometheus.Registerer) *Handler {
	cfg = cfg.withDefaults()
	failures := &failureLog{log: log}
	m := newMetrics(reg)
	h := &Handler{
		cfg:     cfg,
		trusted: cfg.TrustedProxies,
		limits:  newCallerLimits(),
		log:     failures,
		metrics: m,
		receipts: &Receipts{
			buf: cfg.Buffer,
			outlook: &outlook{cfg.ETA, func(drain string) time.Duration {
				if d := cfg.Policy().Drain(drain); d != nil {
					return d.Deadline.MaxDelay
				}
				return 0
			}},
			log:     failures,
			waits:   newWaits(cfg.MaxWaiting),
			waitMax: cfg.WaitMax,
			waiting: m.unrouted.waiting,
		},
		bodies:    bodyMemory{max: cfg.MaxBodyMemory},
		inflaters: newInflaters(),
		scratch:   sync.Pool{New: newScratch},
	}
	h.Apply(cfg.Policy())
	if reg != nil {
		reg.MustRegister(newLimitCollector(h.limits))
	}
	return h
}

// Apply makes limits and metrics follow a new policy: what is added begins, what
// is removed disappears, and limits that stay keep their buckets. Call it before
// Config.Policy returns set, so that no request of an added route goes
// uncounted.
func (h *Handler) Apply(set *policies.Set) {
	h.metrics.apply(set)
	h.limits.apply(time.Now(), set)
}

// Stop prepares for the end of the process: from now on answers carry
// Connection: close, and requests that wait are answered with the receipt as
// it stands. Accepting goes on. It does not block and may be called again.
func (h *Handler) Stop() { h.receipts.waits.stop() }

// Receipts returns the receipts that the handler serves.
func (h *Handler) Receipts() *Receipts { return h.receipts }

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := begin(w, r, h.receipts.waits.stopped())
	target, err := checkedTarget(r)
	if err != nil {
		h.metrics.unrouted.observe(h.fail(x, err), time.Since(x.start))
		return
	}
	if strings.HasPrefix(r.URL.Path, reservedPrefix) || r.URL.Path == strings.TrimSuffix(reservedPrefix, "/") {
		h.serveReserved(x)
		return
	}
	m, o := h.serveRoute(x, target)
	m.observe(o, time.Since(x.start))
	if x.cut {
		panic(http.ErrAbortHandler) // which servers take for what it is
	}
}

// serveReserved answers what is never routed. Requests for receipts are not
// decisions about new work, and no metric counts them as such.
func (h *Handler) serveReserved(x *exchange) {
	id, ok := strings.CutPrefix(x.r.URL.Path, receiptsPrefix)
	if !ok || id == "" || strings.Contains(id, "/") {
		x.fail(problemNoRoute())
		return
	}
	if err := h.receipts.owned(x, id, h.cfg.Policy()); err != nil {
		h.receipts.fail(x, err)
		return
	}
	h.receipts.serve(x, id)
}

func (h *Handler) serveRoute(x *exchange, target string) (*routeMetrics, outcome) {
	set := h.cfg.Policy()
	x.policy = set
	route, allow := set.Match(x.r.Host, x.r.Method, x.r.URL.Path)
	if route == nil {
		p := problemNoRoute()
		if len(allow) > 0 {
			p = problemMethodNotAllowed(allow)
		}
		x.fail(p)
		return h.metrics.unrouted, p.outcome()
	}
	m := h.metrics.route(route.Name)
	if looped(x.r) {
		return m, h.fail(x, problemLoop())
	}
	if set.Disguised(route, x.r.Host, x.r.Method, x.r.URL.Path) {
		return m, h.fail(x, problemBadRequest("the path could be that of another route, which is for some callers alone: mind letters, the last slash and semicolons"))
	}
	if p := x.identify(set, route); p != nil {
		x.fail(p)
		return m, p.outcome()
	}
	if route.Split == policies.SplitBulk {
		x.set("X-Elastic-Product", "Elasticsearch")
		if asks, _ := route.Bulk(x.r.Method, x.r.URL.Path); asks == policies.BulkHello {
			return m, x.helloBulk()
		}
	}
	if err := h.limit(x, route); err != nil {
		return m, h.fail(x, err)
	}
	defer x.quota.settle() // where the body was refused before its limits were asked
	switch route.Mode {
	case policies.ModeBuffer:
		if route.Split == policies.SplitBulk {
			return m, h.bulk(x, set, route, target)
		}
		return m, h.accept(x, set, route, m, target)
	case policies.ModeOverflow:
		return m, h.overflow(x, set, route, m, target)
	case policies.ModePass, policies.ModeHold:
		return m, h.claimed(x, route, m, target, func() outcome { return h.live(x, route, m) })
	default:
		return m, h.fail(x, errors.New("route "+route.Name+": unknown mode "+string(route.Mode)))
	}
}

// partIf has the connection closed after the answer, so that the caller's next
// request finds a server that stays.
func (x *exchange) partIf(stopping bool) {
	if stopping {
		x.set("Connection", "close")
	}
}

// fail answers with the problem that err stands for, and logs what the caller
// is not told.
func (h *Handler) fail(x *exchange, err error) outcome {
	p := problemOf(err)
	if p.status == http.StatusInternalServerError {
		h.log.report(x, err)
	}
	x.fail(p)
	return p.outcome()
}
