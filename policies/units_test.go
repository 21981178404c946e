package policies

import (
	"math"
	"net/netip"
	"testing"
	"time"

	"forebay/limiter"
)

func TestParseRate(t *testing.T) {
	good := map[string]limiter.Rate{
		"50/s": 50, "3000/m": 50, "100/h": 100.0 / 3600, "50": 50, "0": 0, "0/s": 0, "0.5/s": 0.5, "1.5": 1.5,
		"unlimited": limiter.Unlimited,
	}
	for s, want := range good {
		if got, err := ParseRate(s); err != nil || got != want {
			t.Errorf("ParseRate(%q) = %v, %v; want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "-1/s", "50/x", "50/", "/s", "50 /s", "1e3/s", "NaN", "Inf", "1_000/s", "..", "1.2.3/s", "2000000000/s", "0.001/h", "Unlimited", "50/s/s", "0x10"} {
		if got, err := ParseRate(s); err == nil {
			t.Errorf("ParseRate(%q) = %v, want an error", s, got)
		}
	}
}

func TestParseSize(t *testing.T) {
	good := map[string]int64{
		"0": 0, "4096": 4096, "256KiB": 256 << 10, "16MiB": 16 << 20, "20GiB": 20 << 30, "2TiB": 2 << 40,
		"1KB": 1000, "1MB": 1e6, "1GB": 1e9, "1.5GiB": 3 << 29, "9223372036854775807": math.MaxInt64,
	}
	for s, want := range good {
		if got, err := ParseSize(s); err != nil || got != want {
			t.Errorf("ParseSize(%q) = %v, %v; want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "20G", "20 GiB", "-1", "1.5", "0.3KiB", "GiB", "9223372036854775808", "8388608TiB", "1e3", "20gib"} {
		if got, err := ParseSize(s); err == nil {
			t.Errorf("ParseSize(%q) = %v, want an error", s, got)
		}
	}
}

func TestParseDuration(t *testing.T) {
	good := map[string]time.Duration{
		"0": 0, "250ms": 250 * time.Millisecond, "1h30m": 90 * time.Minute, "14d": 14 * 24 * time.Hour,
		"1d12h": 36 * time.Hour, "0.5d": 12 * time.Hour, "1.5h": 90 * time.Minute,
	}
	for s, want := range good {
		if got, err := ParseDuration(s); err != nil || got != want {
			t.Errorf("ParseDuration(%q) = %v, %v; want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "30", "-1s", "d", "1d-1h", "1d2d", "1w", "5 m", "999999999d", "106751d24h", "1h1d"} {
		if got, err := ParseDuration(s); err == nil {
			t.Errorf("ParseDuration(%q) = %v, want an error", s, got)
		}
	}
}

func TestHints(t *testing.T) {
	tests := []struct {
		hint     func(string) string
		in, want string
	}{
		{rateHint, "50/sec", "write 50/s"},
		{rateHint, "50 per second", "write 50/s"},
		{rateHint, "3000/min", "write 3000/m"},
		{rateHint, "50rps", "write 50/s, 50/m or 50/h"},
		{rateHint, "fast", "write 50/s, 3000/m, 100/h, 0 or unlimited"},
		{sizeHint, "20G", "write 20GiB"},
		{sizeHint, "20 gb", "write 20GiB"},
		{sizeHint, "big", "write KiB, MiB, GiB or TiB after the number"},
		{durationHint, "30", "add the unit: 30s, 30m, 30h or 30d"},
		{durationHint, "5 minutes", "write 5m"},
		{durationHint, "2w", "write 14d"},
		{durationHint, "soon", "write 250ms, 30s, 5m, 2h or 14d"},
		{zoneHint, "asia/shanghai", "did you mean Asia/Shanghai?"},
		{zoneHint, "Asia/Beijing", "did you mean Asia/Shanghai?"},
		{zoneHint, "Asia/Shangai", "did you mean Asia/Shanghai?"},
		{zoneHint, "Berlin", "did you mean Europe/Berlin?"},
		{zoneHint, "New York", "did you mean America/New_York?"},
		{zoneHint, "+08:00", "use a name of the IANA time zone database, such as Asia/Shanghai or UTC"},
		{idHint, "Order_Service", "write order-service"},
		{idHint, "订单", ""},
	}
	for _, tt := range tests {
		if got := tt.hint(tt.in); got != tt.want {
			t.Errorf("hint for %q = %q, want %q", tt.in, got, tt.want)
		}
	}
}

func TestNearest(t *testing.T) {
	known := []string{"max_bytes", "max_message_bytes", "keep_delivered", "name", "intervals", "rate"}
	for in, want := range map[string]string{
		"max_byte": "max_bytes", "maxbytes": "max_bytes", "keep_deliverd": "keep_delivered", "nmae": "name",
		"time_intervals": "intervals", "Rate": "rate", "colour": "", "": "",
	} {
		if got := nearest(in, known); got != want {
			t.Errorf("nearest(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestMayDial(t *testing.T) {
	plain := &HTTPSink{}
	allowing := &HTTPSink{AllowAddresses: []netip.Prefix{netip.MustParsePrefix("169.254.10.0/24")}}
	tests := []struct {
		sink *HTTPSink
		addr string
		want bool
	}{
		{plain, "10.0.0.1", true},
		{plain, "127.0.0.1", true},
		{plain, "203.0.113.7", true},
		{plain, "169.254.169.254", false},
		{plain, "::ffff:169.254.169.254", false},
		{plain, "fe80::1%eth0", false},
		{plain, "fd00:ec2::254", false},
		{plain, "100.100.100.200", false},
		{plain, "0.0.0.0", false},
		{plain, "224.0.0.1", false},
		{allowing, "169.254.10.9", true},
		{allowing, "::ffff:169.254.10.9", true},
		{allowing, "169.254.11.9", false},
	}
	for _, tt := range tests {
		if got := tt.sink.MayDial(netip.MustParseAddr(tt.addr)); got != tt.want {
			t.Errorf("MayDial(%s) with %v = %v, want %v", tt.addr, tt.sink.AllowAddresses, got, tt.want)
		}
	}
	if plain.MayDial(netip.Addr{}) {
		t.Error("MayDial of no address = true, want false")
	}
}
