package ingress

import (
	"encoding/binary"
	"math/bits"
)

// Bodies that are split are checked here rather than by json.Valid, which
// takes a call for every byte and does not say where a value ends. A fuzz test
// holds both to the same answers.

// maxJSONDepth is where encoding/json stops, too.
const maxJSONDepth = 10000

// What stands for the place behind what is no JSON, and behind what is nested too
// deep to be looked at. No other place is below 0.
const (
	malformed = -1
	tooDeep   = -2
)

// jsonFault says why b is not one JSON value; "" means that it is, as json.Valid
// has it: bytes of a string that are no UTF-8 are fine.
func jsonFault(b []byte) string {
	end := skipValue(b, skipSpace(b, 0), 0)
	switch {
	case end == tooDeep:
		return faultTooDeep
	case end < 0 || skipSpace(b, end) != len(b):
		return faultNotJSON
	}
	return ""
}

const (
	faultNotJSON = "is not JSON"
	faultTooDeep = "is nested more than 10000 deep"
)

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\r' || b[i] == '\t') {
		i++
	}
	return i
}

// skipValue returns the place behind the value that begins at i; depth is the
// number of values around it.
func skipValue(b []byte, i, depth int) int {
	if i >= len(b) {
		return malformed
	}
	switch c := b[i]; {
	case c == '"':
		return skipString(b, i+1)
	case c == '{':
		return skipObject(b, i+1, depth+1)
	case c == '[':
		return skipArray(b, i+1, depth+1)
	case c == '-' || '0' <= c && c <= '9':
		return skipNumber(b, i)
	case c == 't':
		return skipWord(b, i, "true")
	case c == 'f':
		return skipWord(b, i, "false")
	case c == 'n':
		return skipWord(b, i, "null")
	}
	return malformed
}

func skipWord(b []byte, i int, word string) int {
	if len(b)-i < len(word) || string(b[i:i+len(word)]) != word {
		return malformed
	}
	return i + len(word)
}

func skipObject(b []byte, i, depth int) int {
	if depth > maxJSONDepth {
		return tooDeep
	}
	i = skipSpace(b, i)
	if i < len(b) && b[i] == '}' {
		return i + 1
	}
	for {
		if i = skipSpace(b, i); i >= len(b) || b[i] != '"' {
			return malformed
		}
		if i = skipString(b, i+1); i == malformed {
			return malformed
		}
		if i = skipSpace(b, i); i >= len(b) || b[i] != ':' {
			return malformed
		}
		if i = skipValue(b, skipSpace(b, i+1), depth); i < 0 {
			return i
		}
		var ended bool
		if i, ended = skipComma(b, i, '}'); ended || i == malformed {
			return i
		}
	}
}

func skipArray(b []byte, i, depth int) int {
	if depth > maxJSONDepth {
		return tooDeep
	}
	i = skipSpace(b, i)
	if i < len(b) && b[i] == ']' {
		return i + 1
	}
	for {
		if i = skipValue(b, skipSpace(b, i), depth); i < 0 {
			return i
		}
		var ended bool
		if i, ended = skipComma(b, i, ']'); ended || i == malformed {
			return i
		}
	}
}

// skipComma goes past what follows a member: a comma, or the bracket that
// ends them all.
func skipComma(b []byte, i int, bracket byte) (next int, ended bool) {
	i = skipSpace(b, i)
	switch {
	case i < len(b) && b[i] == ',':
		return i + 1, false
	case i < len(b) && b[i] == bracket:
		return i + 1, true
	}
	return malformed, false
}

// skipString goes from behind the opening quote to behind the closing one,
// eight bytes at a time where nothing needs a look.
func skipString(b []byte, i int) int {
	for {
		for i+8 <= len(b) {
			if special := specialBytes(binary.LittleEndian.Uint64(b[i:])); special != 0 {
				i += bits.TrailingZeros64(special) / 8
				break
			}
			i += 8
		}
		for i < len(b) && b[i] >= ' ' && b[i] != '"' && b[i] != '\\' {
			i++
		}
		if i >= len(b) || b[i] < ' ' {
			return malformed
		}
		if b[i] == '"' {
			return i + 1
		}
		if i = skipEscape(b, i+1); i == malformed {
			return malformed
		}
	}
}

// specialBytes marks, from the lowest byte up, the first that is a quote, a
// backslash or a control character; marks above that one mean nothing.
func specialBytes(w uint64) uint64 {
	const each, high = 0x0101010101010101, 0x8080808080808080
	quote, backslash := w^each*'"', w^each*'\\'
	return ((quote-each)&^quote | (backslash-each)&^backslash | (w-each*' ')&^w) & high
}

// skipEscape goes past what follows a backslash.
func skipEscape(b []byte, i int) int {
	if i >= len(b) {
		return malformed
	}
	switch b[i] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return i + 1
	case 'u':
		if len(b)-i < 5 {
			return malformed
		}
		for _, c := range b[i+1 : i+5] {
			if unhex(c) > 15 {
				return malformed
			}
		}
		return i + 5
	}
	return malformed
}

func skipNumber(b []byte, i int) int {
	if b[i] == '-' {
		i++
	}
	switch {
	case i < len(b) && b[i] == '0':
		i++
	case i < len(b) && '1' <= b[i] && b[i] <= '9':
		i = skipDigits(b, i)
	default:
		return malformed
	}
	if i < len(b) && b[i] == '.' {
		if i = skipDigits(b, i+1); i == malformed {
			return malformed
		}
	}
	if i < len(b) && (b[i] == 'e' || b[i] == 'E') {
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		return skipDigits(b, i)
	}
	return i
}

// skipDigits wants one digit at least.
func skipDigits(b []byte, i int) int {
	begin := i
	for i < len(b) && '0' <= b[i] && b[i] <= '9' {
		i++
	}
	if i == begin {
		return malformed
	}
	return i
}
