package policies

import (
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"

	"forebay/limiter"
)

// Bounds of a rate that is neither 0 nor unlimited, in messages a second. Slower
// than the least, a message's wait would not fit a time.Duration with room to spare.
const (
	maxRate = 1e9
	minRate = 0.01 / 3600
)

// ParseRate reads a rate as policies and commands write it: 50/s, 3000/m, 100/h, a
// plain number of messages a second, 0, or unlimited.
func ParseRate(s string) (limiter.Rate, error) {
	if s == "unlimited" {
		return limiter.Unlimited, nil
	}
	number, unit, _ := strings.Cut(s, "/")
	per := map[string]float64{"s": 1, "m": 60, "h": 3600}[unit]
	if !strings.Contains(s, "/") {
		per = 1
	}
	n, ok := parseNumber(number)
	if !ok || per == 0 {
		return 0, fmt.Errorf("%s is not a rate such as 50/s, 3000/m, 100/h, 0 or unlimited", quote(s))
	}
	rate := n / per
	if rate > maxRate {
		return 0, fmt.Errorf("%s is over 1000000000/s", quote(s))
	}
	if rate > 0 && rate < minRate {
		return 0, fmt.Errorf("%s is under 0.01/h and not 0", quote(s))
	}
	return limiter.Rate(rate), nil
}

// sizeUnits in bytes.
var sizeUnits = map[string]int64{
	"": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12,
	"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40,
}

// ParseSize reads a number of bytes: 20GiB, 256KiB, 1.5MiB, 10MB or plain 4096.
func ParseSize(s string) (int64, error) {
	number, unit := cutNumber(s)
	per, known := sizeUnits[unit]
	if _, ok := parseNumber(number); !ok || !known {
		return 0, fmt.Errorf("%s is not a size such as 256KiB, 20GiB, 10MB or 4096", quote(s))
	}
	// Exact, so that no size is rounded: a float holds 53 bits.
	n, ok := new(big.Rat).SetString(number)
	if !ok || !n.Mul(n, new(big.Rat).SetInt64(per)).IsInt() {
		return 0, fmt.Errorf("%s is not a whole number of bytes", quote(s))
	}
	if !n.Num().IsInt64() {
		return 0, fmt.Errorf("%s is over 8388607TiB", quote(s))
	}
	return n.Num().Int64(), nil
}

// ParseDuration reads a duration as in Go plus d for 24 hours: 250ms, 1h30m, 14d,
// 1d12h. It is never negative.
func ParseDuration(s string) (time.Duration, error) {
	bad := fmt.Errorf("%s is not a duration such as 250ms, 30s, 1h30m or 14d", quote(s))
	days, rest, hasDays := strings.Cut(s, "d")
	if !hasDays {
		days, rest = "0", s
	}
	n, ok := parseNumber(days)
	if !ok || strings.HasPrefix(rest, "-") || strings.HasPrefix(rest, "+") {
		return 0, bad
	}
	if n > math.MaxInt64/float64(24*time.Hour)-1 {
		return 0, fmt.Errorf("%s is too long", quote(s))
	}
	total := time.Duration(n * float64(24*time.Hour))
	if rest == "" && hasDays {
		return total, nil
	}
	clock, err := time.ParseDuration(rest)
	if err != nil {
		return 0, bad
	}
	if total+clock < total {
		return 0, fmt.Errorf("%s is too long", quote(s))
	}
	return total + clock, nil
}

// parseNumber reads digits with at most one point among them. No sign, no
// exponent, no underscore: what a person would read the same way.
func parseNumber(s string) (float64, bool) {
	const longest = 20
	if number, rest := cutNumber(s); number == "" || rest != "" || len(s) > longest {
		return 0, false
	}
	n, err := strconv.ParseFloat(s, 64)
	return n, err == nil
}

// cutNumber splits s after its leading digits and point.
func cutNumber(s string) (number, rest string) {
	i := strings.IndexFunc(s, func(r rune) bool { return r != '.' && (r < '0' || r > '9') })
	if i < 0 {
		return s, ""
	}
	return s[:i], s[i:]
}

// rateHint guesses what was meant by something that is not a rate.
func rateHint(s string) string {
	number, rest := cutNumber(s)
	if rest == "/s" || rest == "/m" || rest == "/h" {
		return "" // out of bounds, and the message names those
	}
	unit := strings.ToLower(strings.Trim(rest, " /"))
	unit = strings.TrimSpace(strings.TrimPrefix(unit, "per "))
	if _, ok := parseNumber(number); !ok || unit == "" {
		return "write 50/s, 3000/m, 100/h, 0 or unlimited"
	}
	if strings.HasPrefix(unit, "m") || strings.HasPrefix(unit, "h") || strings.HasPrefix(unit, "s") {
		return fmt.Sprintf("write %s/%s", number, unit[:1])
	}
	return fmt.Sprintf("write %s/s, %s/m or %s/h", number, number, number)
}

// sizeHint guesses what was meant by something that is not a size.
func sizeHint(s string) string {
	number, rest := cutNumber(s)
	unit := strings.ToUpper(strings.TrimSpace(rest))
	if _, ok := parseNumber(number); !ok || unit == "" || !strings.Contains("KMGT", unit[:1]) {
		return "write KiB, MiB, GiB or TiB after the number"
	}
	return fmt.Sprintf("write %s%siB", number, unit[:1])
}

// durationHint guesses what was meant by something that is not a duration.
func durationHint(s string) string {
	number, rest := cutNumber(s)
	unit := strings.ToLower(strings.TrimSpace(rest))
	n, ok := parseNumber(number)
	switch {
	case !ok:
		return "write 250ms, 30s, 5m, 2h or 14d"
	case unit == "":
		return fmt.Sprintf("add the unit: %ss, %sm, %sh or %sd", number, number, number, number)
	case strings.HasPrefix(unit, "milli"):
		return fmt.Sprintf("write %sms", number)
	case strings.HasPrefix(unit, "w"):
		return fmt.Sprintf("write %sd", strconv.FormatFloat(7*n, 'f', -1, 64))
	case strings.Contains("smhd", unit[:1]):
		return fmt.Sprintf("write %s%s", number, unit[:1])
	}
	return "write 250ms, 30s, 5m, 2h or 14d"
}

// parseInt reads decimal digits with an optional minus sign.
func parseInt(s string) (n int, ok bool) {
	digits := strings.TrimPrefix(s, "-")
	if digits == "" || len(digits) > 18 || strings.Trim(digits, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.Atoi(s)
	return n, err == nil
}
