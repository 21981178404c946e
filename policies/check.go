package policies

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"forebay/limiter"
)

// Check returns warnings about a valid policy: what is allowed and hardly meant,
// such as a stream that no drain reads, or an entry that never holds within 400
// days of now. They are in the order of the files and their lines.
func Check(s *Set, now time.Time) Errors {
	c := &checker{set: s, now: now}
	c.streams()
	c.sinks()
	c.sources()
	c.callers()
	c.intervals()
	for i := range s.Drains {
		c.drain(&s.Drains[i])
	}
	for i := range s.Routes {
		c.route(&s.Routes[i])
	}
	return c.inOrder()
}

type checker struct {
	set      *Set
	now      time.Time
	windows  int // looked at so far
	warnings Errors
}

// At is a finding about an object of the policy, sink or source say, that whoever uses it
// made: at the place of its name.
func (s *Set) At(kind, name string, severity Severity, hint, message string) Error {
	p, known := s.places[object{kind, name}]
	if !known {
		return Error{Message: message, Hint: hint, Severity: severity}
	}
	return p.error(severity, hint, message)
}

// maxWindows bounds how many windows a Check looks at, of all drains together. It
// is far more than people write schedules for; past it, nothing is said.
const maxWindows = 200_000

func (c *checker) warn(o object, hint, format string, args ...any) {
	if p, known := c.set.places[o]; known {
		c.warnAt(p, hint, format, args...)
	}
}

func (c *checker) warnAt(p place, hint, format string, args ...any) {
	c.warnings = append(c.warnings, p.error(Warning, hint, fmt.Sprintf(format, args...)))
}

func (c *checker) inOrder() Errors {
	slices.SortStableFunc(c.warnings, func(a, b Error) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return c.warnings
}

func (c *checker) streams() {
	fed, read, records := make(map[string]bool), make(map[string]bool), make(map[string]bool)
	for _, r := range c.set.Routes {
		fed[r.Stream] = true
	}
	for _, s := range c.set.Sources {
		fed[s.Stream], records[s.Stream] = true, true
	}
	for _, d := range c.set.Drains {
		read[d.Stream] = true
	}
	for _, s := range c.set.Streams {
		o := object{"stream", s.Name}
		if !read[s.Name] {
			c.warn(o, "add a drain, or its messages wait for good", "no drain reads stream %s", s.Name)
		}
		if !fed[s.Name] {
			c.warn(o, "add a route, or remove the stream once it is empty", "no route or source feeds stream %s", s.Name)
		}
		if (s.OrderingKey.OfRecords() || Key(s.CancelKey).OfRecords()) && !records[s.Name] {
			c.warn(o, "add a source, or name a place that requests have", "stream %s has a key kafka:key, and no source feeds it: its messages have no key", s.Name)
		}
		if s.MaxBytes > 0 && s.MaxBytes < s.MaxMessageBytes {
			c.warn(o, "raise max_bytes, or lower max_message_bytes", "stream %s cannot hold one message of its max_message_bytes", s.Name)
		}
		if s.DeadMaxBytes < s.MaxMessageBytes {
			c.warn(o, "raise max_bytes of dead, or lower max_message_bytes", "stream %s cannot keep one dead letter of its max_message_bytes", s.Name)
		}
	}
}

func (c *checker) sinks() {
	used := make(map[string]bool)
	for _, d := range c.set.Drains {
		used[d.Sink] = true
	}
	for _, r := range c.set.Routes {
		used[r.Sink] = true
	}
	for _, s := range c.set.Sinks {
		o := object{"sink", s.Name}
		if !used[s.Name] {
			c.warn(o, "name it in a drain, or remove it", "nothing uses sink %s", s.Name)
		}
		if s.Budget.Limit.Rate == 0 {
			c.warn(o, "a budget of 0 lets nothing through, at any time; write what the sink can take, and to stop for a while run `forebay drains pause DRAIN --reason WHY`",
				"the budget of sink %s is 0: nothing will ever be delivered", s.Name)
		}
		if s.Kafka != nil {
			c.connection(o, "sink "+s.Name, &s.Kafka.KafkaConnection)
		}
		if n := s.Batched(); s.Budget.Limit.Rate != limiter.Unlimited && s.Budget.Limit.Burst < n {
			c.warn(o, fmt.Sprintf("write burst: %d, or leave burst out", n), "a batch of sink %s never has its %d messages: its burst is %d", s.Name, n, s.Budget.Limit.Burst)
		}
		at := s.HTTP
		if s.Elasticsearch != nil {
			at = &s.Elasticsearch.HTTP
		}
		if at == nil {
			continue
		}
		if b := at.Batch; b != nil && b.MaxMessages > MaxNamedIDs {
			c.warn(o, fmt.Sprintf("write max_messages: %d or less, or have the sink tell messages by what is in them", MaxNamedIDs),
				"the ids of a batch of %d messages do not fit into a header: sink %s cannot tell which were sent before", b.MaxMessages, s.Name)
		}
		for _, status := range at.Permanent {
			if slices.Contains([]int{429, 502, 503, 504}, status) {
				c.warn(o, "take it out of permanent: such messages would be buried while the sink is only busy",
					"status %d of sink %s is about the sink, not about a message", status, s.Name)
			}
		}
		for _, u := range at.URLs {
			if u.Scheme == "http" && isPublic(u.Hostname()) {
				c.warn(o, "use https", "sink %s sends messages to %s in clear text", s.Name, u.Host)
			}
		}
	}
}

func (c *checker) sources() {
	type reading struct{ group, topic string }
	readers := make(map[reading]*Source)
	for i := range c.set.Sources {
		s := &c.set.Sources[i]
		o := object{"source", s.Name}
		c.connection(o, "source "+s.Name, &s.Kafka.KafkaConnection)
		for _, topic := range s.Kafka.Topics {
			r := reading{s.Kafka.Group, topic}
			if other := readers[r]; other != nil && overlaps(other.Kafka.Brokers, s.Kafka.Brokers) {
				c.warn(o, "give each source a group of its own, or one source both",
					"sources %s and %s read topic %s as group %s: each record comes to one of them alone", other.Name, s.Name, topic, r.group)
			}
			readers[r] = s
		}
	}
}

func overlaps(a, b []string) bool {
	return slices.ContainsFunc(a, func(x string) bool { return slices.Contains(b, x) })
}

// connection finds what others on the way could read or pretend to be.
func (c *checker) connection(o object, what string, k *KafkaConnection) {
	if broker := k.public(); broker != "" && k.TLS == nil {
		c.warn(o, "add tls: {}", "%s exchanges messages with %s in clear text", what, broker)
	}
	if k.TLS != nil && k.TLS.Unverified {
		c.warn(o, "write ca_file in its place", "%s does not verify who it talks to: insecure_skip_verify", what)
	}
}

// callers finds what no route knows callers by.
func (c *checker) callers() {
	used := make(map[object]bool)
	for _, r := range c.set.Routes {
		for _, a := range r.Auth {
			used[object{"auth entry", a.Name}] = true
		}
		for _, name := range r.Limits {
			used[object{"limit", name}] = true
		}
	}
	unused := func(o object) {
		if !used[o] {
			c.warn(o, "name it in a route, or remove it", "no route uses %s %s", o.kind, o.name)
		}
	}
	for _, a := range c.set.Auth {
		o := object{"auth entry", a.Name}
		unused(o)
		if a.APIKey != nil && a.APIKey.open {
			c.warn(o, "chmod 0640: whoever writes to it lets himself in", "keys file %s can be read by everybody, or written by others than its owner", a.APIKey.KeysFile)
		}
	}
	for _, l := range c.set.Limits {
		o := object{"limit", l.Name}
		unused(o)
		if l.Limit.Rate == 0 {
			c.warn(o, "write what callers may send; to refuse them for a while, close the stream", "limit %s lets nothing through: its rate is 0", l.Name)
		}
	}
}

// isPublic guesses whether a host is beyond the operator's own networks.
func isPublic(host string) bool {
	if addr, err := netip.ParseAddr(host); err == nil {
		return !addr.IsPrivate() && !addr.IsLoopback() && !addr.IsLinkLocalUnicast()
	}
	private := []string{
		".internal", ".intranet", ".private", ".corp", ".lan", ".local", ".localhost", ".home.arpa", ".svc", ".test",
		".example", ".invalid",
	}
	return strings.Contains(host, ".") && !slices.ContainsFunc(private, func(end string) bool { return strings.HasSuffix(host, end) })
}

func (c *checker) route(r *Route) {
	o := object{"route", r.Name}
	if c.set.router.shadowed(r) {
		c.warn(o, "remove it, or one of those", "route %s never matches: more specific routes take all of its requests", r.Name)
	}
	for _, name := range r.Limits {
		if l := c.set.Limit(name); len(r.Auth) == 0 && l != nil && slices.ContainsFunc(l.Key, func(k LimitKey) bool { return k.Word == KeyPrincipal }) {
			c.warn(o, "add auth, or key the limit by client_ip", "callers of route %s have no principal: limit %s tells them apart by address", r.Name, name)
		}
	}
	if len(r.Auth) == 0 {
		c.warn(object{"idempotency", r.Name}, "let callers choose keys that nobody guesses, such as a UUID",
			"without auth the idempotency keys of route %s are shared by all of its callers", r.Name)
	}
	if r.Split == SplitNone && r.MaxInflated != maxInflated {
		c.warn(o, "remove it, or split the bodies", "max_inflated of route %s has no effect: only bodies that are split are inflated", r.Name)
	}
	s := c.set.Stream(r.Stream)
	// A body that is split may well be longer than each of its messages.
	if s != nil && r.Split == SplitNone && r.MaxBody > s.MaxMessageBytes && r.MaxBody != defaultMaxBody {
		c.warn(o, "lower max_body, or raise the stream's max_message_bytes",
			"route %s reads bodies of up to %s, but stream %s holds messages of up to %s",
			r.Name, formatSize(r.MaxBody), s.Name, formatSize(s.MaxMessageBytes))
	}
}
