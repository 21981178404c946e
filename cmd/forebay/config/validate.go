package config

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"forebay/buffer/segment"
)

const (
	// minSegmentBytes is the smallest segment that holds a block and its overhead.
	minSegmentBytes = 1 << 20
	// maxSegmentBytes is the largest whose value log, with the reserve for
	// changes, stays below 2 GiB, which is as far as the engine can address one.
	maxSegmentBytes = 1_908_874_352
)

// validate notes every value that a running process could not honour.
func (l *loader) validate(c Config) {
	if c.Version != 1 {
		l.fault("version", fmt.Sprintf("%d is not a version this program reads", c.Version), "write version: 1")
	}
	l.validateListen(c.Listen)
	l.validateHTTP(c.HTTP)
	l.validateBuffer(c.Buffer)
	if len(c.Policies.Paths) == 0 {
		l.fault("policies.paths", "is not set", "pass --policies 'policies/*.yaml', or set it in forebay.yaml")
	}
	l.positive("shutdown.timeout", c.Shutdown.Timeout)
	l.oneOf("telemetry.log.level", c.Telemetry.Log.Level)
	l.oneOf("telemetry.log.format", c.Telemetry.Log.Format)
}

func (l *loader) validateListen(c Listen) {
	if len(c.Public) == 0 {
		l.fault("listen.public", "names no address", `write - address: ":8080"`)
	}
	for _, p := range c.Public {
		if err := checkAddress(p.Address); err != nil {
			l.fault("listen.public", err.Error(), "")
		}
	}
	if err := checkAddress(c.Admin.Address); err != nil {
		l.fault("listen.admin.address", err.Error(), "")
		return
	}
	if !Loopback(c.Admin.Address) && c.Admin.TokenFile == "" {
		l.fault("listen.admin.address", c.Admin.Address+" is reachable from other machines and no token is set",
			"set listen.admin.token_file, or listen on 127.0.0.1")
	}
}

func (l *loader) validateHTTP(c HTTP) {
	l.positive("http.read_header_timeout", c.ReadHeaderTimeout)
	l.positive("http.read_timeout", c.ReadTimeout)
	l.positive("http.idle_timeout", c.IdleTimeout)
	if c.MaxHeaderBytes < 4<<10 || c.MaxHeaderBytes > 16<<20 {
		l.fault("http.max_header_bytes", "must be between 4KiB and 16MiB", "")
	}
	if c.MaxConnections < 1 {
		l.fault("http.max_connections", "must be at least 1", "")
	}
	for _, s := range c.TrustedProxies {
		if _, err := parseRange(s); err != nil {
			l.fault("http.trusted_proxies", err.Error(), `write ["10.0.0.0/8", "2001:db8::1"]`)
		}
	}
}

func (l *loader) validateBuffer(c Buffer) {
	switch c.Engine {
	case "badger":
	case "kafka":
		l.fault("buffer.engine", "kafka is not supported yet", "use badger")
	default:
		l.fault("buffer.engine", fmt.Sprintf("%q is not an engine", c.Engine), "use badger")
	}
	if c.Dir == "" {
		l.fault("buffer.dir", "is not set", "pass --data DIR, or set it in forebay.yaml")
	}
	switch {
	case c.SegmentBytes < minSegmentBytes:
		l.fault("buffer.segment_bytes", "must be at least 1MiB", "")
		return
	case c.SegmentBytes > maxSegmentBytes:
		l.fault("buffer.segment_bytes", fmt.Sprintf("must be at most %d bytes, a little under 1821MiB", maxSegmentBytes), "write 1GiB, or 512MiB as the default is")
		return
	}
	// The open segment and the next one are reserved whole before they are written.
	if least := 2 * segment.Reserved(c.SegmentBytes); c.MaxBytes != 0 && c.MaxBytes < least {
		l.fault("buffer.max_bytes", fmt.Sprintf("must be at least %dMiB, what two segments reserve", (least+1<<20-1)>>20),
			"raise it, or lower buffer.segment_bytes")
	}
}

func (l *loader) positive(path string, d time.Duration) {
	if d <= 0 {
		l.fault(path, "must be greater than 0", "")
	}
}

func (l *loader) oneOf(path, value string) {
	allowed := choices()[path]
	if !slices.Contains(allowed, value) {
		l.fault(path, fmt.Sprintf("%q is not one of %s", value, strings.Join(allowed, ", ")), "")
	}
}

func checkAddress(address string) error {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%q is not an address such as 127.0.0.1:8080 or :8080", address)
	}
	if _, err := net.LookupPort("tcp", port); err != nil {
		return fmt.Errorf("%q has no valid port", address)
	}
	return nil
}

// parseRange reads an address, or a range of them.
func parseRange(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" && !a.Is4In6() {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil || p.Addr().Is4In6() {
		return netip.Prefix{}, fmt.Errorf("%q is neither an IP address nor a range such as 10.0.0.0/8", s)
	}
	if p != p.Masked() {
		return netip.Prefix{}, fmt.Errorf("%s is no range: it begins at %s", s, p.Masked())
	}
	return p, nil
}

// Loopback reports whether an address to listen on is reachable from this
// machine alone.
func Loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}
