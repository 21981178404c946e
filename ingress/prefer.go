package ingress

import (
	"iter"
	"strconv"
	"strings"
	"time"
)

// maxWaitAsked is where larger values of wait are cut; what is granted is far less.
const maxWaitAsked = 24 * time.Hour

// preferredWait finds wait=N in the values of Prefer (RFC 7240) and returns N
// seconds. 0 means that no wait is asked for.
func preferredWait(values []string) time.Duration {
	for preference := range preferences(values) {
		if wait, ok := parseWait(preference); ok {
			return wait
		}
	}
	return 0
}

// prefersAsync finds respond-async.
func prefersAsync(values []string) bool {
	for preference := range preferences(values) {
		// A token without a value; an empty one is none, as the RFC says.
		name, _, _ := strings.Cut(preference, ";")
		name, value, _ := strings.Cut(name, "=")
		if value = strings.TrimSpace(value); strings.EqualFold(strings.TrimSpace(name), "respond-async") && (value == "" || value == `""`) {
			return true
		}
	}
	return false
}

// applied tells which preferences were honoured; wait is 0 where none was asked for.
func (x *exchange) applied(wait time.Duration) {
	switch {
	case x.async && wait > 0:
		x.set("Preference-Applied", "respond-async, "+appliedWait(wait))
	case x.async:
		x.set("Preference-Applied", "respond-async")
	case wait > 0:
		x.set("Preference-Applied", appliedWait(wait))
	}
}

// prefersRepresentation finds return=representation.
func prefersRepresentation(values []string) bool {
	for preference := range preferences(values) {
		if value, ok := preferenceValue(preference, "return"); ok {
			return strings.EqualFold(value, "representation")
		}
	}
	return false
}

// preferences are what the values of Prefer hold. The first of a name counts,
// as the RFC says; what is unknown, or cannot be read, is ignored.
func preferences(values []string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, v := range values {
			for v != "" {
				var preference string
				preference, v = cutPreference(v)
				if !yield(preference) {
					return
				}
			}
		}
	}
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

// preferenceValue returns the value of a preference of that name, without its
// quotes.
func preferenceValue(preference, name string) (string, bool) {
	// No value that is known here holds a semicolon, so that parameters can be cut.
	pair, _, _ := strings.Cut(preference, ";")
	key, value, ok := strings.Cut(pair, "=")
	if !ok || !strings.EqualFold(strings.TrimSpace(key), name) {
		return "", false
	}
	value = strings.TrimSpace(value)
	if n := len(value); n >= 2 && value[0] == '"' && value[n-1] == '"' {
		value = value[1 : n-1]
	}
	return value, true
}

func parseWait(preference string) (time.Duration, bool) {
	value, ok := preferenceValue(preference, "wait")
	if !ok {
		return 0, false
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
