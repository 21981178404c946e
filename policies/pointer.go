package policies

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// maxDepth bounds how deep a body nests and is still read for its key.
const maxDepth = 512

// pointer is a JSON Pointer (RFC 6901): the names and indices that lead to a
// value.
type pointer []string

// parsePointer reads what follows json: in a policy; ok is false where it is no
// pointer to a part of a body.
func parsePointer(s string) (p pointer, ok bool) {
	if !strings.HasPrefix(s, "/") {
		return nil, false
	}
	for token := range strings.SplitSeq(s[1:], "/") {
		rest := strings.NewReplacer("~0", "", "~1", "").Replace(token)
		if strings.Contains(rest, "~") {
			return nil, false
		}
		// One pass, so that ~01 is ~1 and no slash.
		p = append(p, strings.NewReplacer("~1", "/", "~0", "~").Replace(token))
	}
	return p, true
}

func (p pointer) String() string {
	var b strings.Builder
	for _, token := range p {
		b.WriteString("/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(token))
	}
	return b.String()
}

// find returns the text of the scalar that p leads to, or "" where there is none,
// it is null, or body is not JSON. It reads the body once and keeps nothing of it.
func (p pointer) find(body []byte) string {
	s := scanner{data: body}
	text := s.value(p, true, 0)
	s.space()
	if s.failed || s.at != len(body) {
		return ""
	}
	return text
}

// scanner walks over JSON by the grammar of RFC 8259.
type scanner struct {
	data   []byte
	at     int
	failed bool
	named  bool // the last name on the way to a value was there
}

// value passes over a value. Where wanted, it returns the text of the scalar that
// rest leads to.
func (s *scanner) value(rest pointer, wanted bool, depth int) string {
	s.space()
	switch c := s.peek(); {
	case depth > maxDepth:
		s.fail()
	case c == '{':
		return s.object(rest, wanted, depth)
	case c == '[':
		return s.array(rest, wanted, depth)
	case c == '"':
		text := s.str()
		if wanted && len(rest) == 0 {
			return unquote(text)
		}
	default:
		text := s.literal()
		if wanted && len(rest) == 0 && string(text) != "null" {
			return string(text)
		}
	}
	return ""
}

func (s *scanner) object(rest pointer, wanted bool, depth int) (found string) {
	s.at++
	if s.space(); s.accept('}') {
		return ""
	}
	for !s.failed {
		s.space()
		name := s.str()
		s.space()
		s.expect(':')
		here := wanted && len(rest) > 0 && isName(name, rest[0])
		if here {
			s.named = s.named || len(rest) == 1
			found = s.value(rest[1:], true, depth+1) // the last of its name
		} else {
			s.value(nil, false, depth+1)
		}
		if s.space(); s.accept('}') {
			return found
		}
		s.expect(',')
	}
	return ""
}

func (s *scanner) array(rest pointer, wanted bool, depth int) (found string) {
	s.at++
	if s.space(); s.accept(']') {
		return ""
	}
	index := -1
	if wanted && len(rest) > 0 {
		index = arrayIndex(rest[0])
	}
	for i := 0; !s.failed; i++ {
		if i == index {
			found = s.value(rest[1:], true, depth+1)
		} else {
			s.value(nil, false, depth+1)
		}
		if s.space(); s.accept(']') {
			return found
		}
		s.expect(',')
	}
	return ""
}

// arrayIndex reads an index as RFC 6901 has it, without leading zeros, or -1.
func arrayIndex(token string) int {
	if len(token) > 1 && token[0] == '0' || strings.HasPrefix(token, "-") {
		return -1
	}
	n, ok := parseInt(token)
	if !ok {
		return -1
	}
	return n
}

// str passes over a string and returns it with its quotes.
func (s *scanner) str() []byte {
	from := s.at
	if !s.accept('"') {
		s.fail()
		return nil
	}
	for s.at < len(s.data) {
		s.plain()
		c := s.peek()
		s.at++
		switch {
		case c == '"':
			return s.data[from:s.at]
		case c < ' ':
			s.fail()
			return nil
		case c == '\\' && !s.escape():
			s.fail()
			return nil
		}
	}
	s.fail()
	return nil
}

// plain passes over what of a string needs no look: most of it.
func (s *scanner) plain() {
	data, at := s.data, s.at
	for at < len(data) && data[at] >= ' ' && data[at] != '"' && data[at] != '\\' {
		at++
	}
	s.at = at
}

// escape passes over what follows a backslash.
func (s *scanner) escape() bool {
	c := s.peek()
	s.at++
	if c != 'u' {
		return c != 0 && strings.IndexByte(`"\/bfnrt`, c) >= 0
	}
	for range 4 {
		if c = s.peek(); !isHex(c) {
			return false
		}
		s.at++
	}
	return true
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

// literal passes over a number, true, false or null.
func (s *scanner) literal() []byte {
	for _, word := range []string{"true", "false", "null"} {
		if bytes.HasPrefix(s.data[s.at:], []byte(word)) {
			s.at += len(word)
			return s.data[s.at-len(word) : s.at]
		}
	}
	from := s.at
	s.accept('-')
	if !s.accept('0') {
		s.digits()
	}
	if s.accept('.') {
		s.digits()
	}
	if s.accept('e') || s.accept('E') {
		if !s.accept('+') {
			s.accept('-')
		}
		s.digits()
	}
	return s.data[from:s.at]
}

// digits passes over at least one digit.
func (s *scanner) digits() {
	from := s.at
	for c := s.peek(); c >= '0' && c <= '9'; c = s.peek() {
		s.at++
	}
	if s.at == from {
		s.fail()
	}
}

func (s *scanner) space() {
	for s.at < len(s.data) {
		switch s.data[s.at] {
		case ' ', '\t', '\r', '\n':
			s.at++
		default:
			return
		}
	}
}

// peek returns the next byte, or 0 at the end: no token begins with it.
func (s *scanner) peek() byte {
	if s.at >= len(s.data) {
		return 0
	}
	return s.data[s.at]
}

func (s *scanner) accept(c byte) bool {
	if s.peek() != c {
		return false
	}
	s.at++
	return true
}

func (s *scanner) expect(c byte) {
	if !s.accept(c) {
		s.fail()
	}
}

// fail ends the walk: what is left is not looked at.
func (s *scanner) fail() { s.failed, s.at = true, len(s.data) }

// isName compares a quoted string with a name.
func isName(quoted []byte, name string) bool {
	if len(quoted) < 2 {
		return false
	}
	if inner := quoted[1 : len(quoted)-1]; isPlain(inner) {
		return string(inner) == name
	}
	return unquote(quoted) == name
}

// unquote leaves what is rare, escapes and broken UTF-8, to encoding/json.
func unquote(quoted []byte) string {
	if len(quoted) < 2 {
		return ""
	}
	if inner := quoted[1 : len(quoted)-1]; isPlain(inner) {
		return string(inner)
	}
	var text string
	if json.Unmarshal(quoted, &text) != nil {
		return ""
	}
	return text
}

func isPlain(inner []byte) bool { return bytes.IndexByte(inner, '\\') < 0 && utf8.Valid(inner) }

// JSONObject reports whether a body is a JSON object, and whether that has a member
// of a name.
func JSONObject(body []byte, name string) (object, named bool) {
	s := scanner{data: body}
	s.space()
	if s.peek() != '{' {
		return false, false
	}
	s.value(pointer{name}, true, 0)
	s.space()
	return !s.failed && s.at == len(body), s.named
}
