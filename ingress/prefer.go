package ingress

import (
	"strconv"
	"strings"
	"time"
)

// maxWaitAsked is where larger values of wait are cut; what is granted is far less.
const maxWaitAsked = 24 * time.Hour

// preferredWait finds wait=N in the values of Prefer (RFC 7240) and returns N
// seconds. The first wait counts, as the RFC says; whatever else is there,
// and whatever cannot be read, is ignored. 0 means that no wait is asked for.
func preferredWait(values []string) time.Duration {
	for _, v := range values {
		for v != "" {
			var preference string
			preference, v = cutPreference(v)
			if wait, ok := parseWait(preference); ok {
				return wait
			}
		}
	}
	return 0
}

// cutPreference cuts at the first comma that is not within quotes.
func cutPreference(s string) (first, rest string) {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && quoted:
			i++
		case c == '"':
			quoted = !quoted
		case c == ',' && !quoted:
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}

func parseWait(preference string) (time.Duration, bool) {
	// wait's value holds no semicolon, so that its parameters can be cut here.
	pair, _, _ := strings.Cut(preference, ";")
	name, value, ok := strings.Cut(pair, "=")
	if !ok || !strings.EqualFold(strings.TrimSpace(name), "wait") {
		return 0, false
	}
	value = strings.TrimSpace(value)
	if n := len(value); n >= 2 && value[0] == '"' && value[n-1] == '"' {
		value = value[1 : n-1]
	}
	if value == "" || strings.Trim(value, "0123456789") != "" {
		return 0, false
	}
	seconds, err := strconv.ParseUint(value, 10, 32)
	if err != nil || seconds > uint64(maxWaitAsked/time.Second) { // digits alone: out of range
		return maxWaitAsked, true
	}
	return time.Duration(seconds) * time.Second, true
}
