package http

import (
	"strconv"
	"strings"
)

// item is a member of a list of RFC 9651: a string with parameters. A whole number
// is an int64, a string a string; what else a parameter may be is a literal.
type item struct {
	name   string
	params map[string]any
}

// literal is a value whose kind does not matter here, as it was sent.
type literal string

func (i item) number(param string) (int64, bool) {
	n, ok := i.params[param].(int64)
	return n, ok && n >= 0
}

// list reads the lines of a field as a list of strings with parameters. It is false
// for anything else, and for what is too long.
func list(lines []string) (items []item, ok bool) {
	s := strings.Join(lines, ",")
	if len(s) > maxAdvice {
		return nil, false
	}
	for s = strings.Trim(s, " \t"); s != ""; {
		var i item
		if i.name, s, ok = quoted(s); !ok {
			return nil, false
		}
		if i.params, s, ok = parameters(s); !ok {
			return nil, false
		}
		items = append(items, i)
		s = strings.TrimLeft(s, " \t")
		if s == "" {
			break
		}
		rest, comma := strings.CutPrefix(s, ",")
		if s = strings.TrimLeft(rest, " \t"); !comma || s == "" {
			return nil, false
		}
	}
	return items, true
}

func parameters(s string) (params map[string]any, rest string, ok bool) {
	params = make(map[string]any)
	for strings.HasPrefix(s, ";") {
		s = strings.TrimLeft(s[1:], " ")
		end := strings.IndexFunc(s, func(r rune) bool { return !isKey(r) })
		if end < 0 {
			end = len(s)
		}
		key := s[:end]
		if key == "" || key[0] != '*' && (key[0] < 'a' || key[0] > 'z') {
			return nil, "", false
		}
		s = s[end:]
		value := any(literal("?1"))
		if after, has := strings.CutPrefix(s, "="); has {
			if value, s, ok = bare(after); !ok {
				return nil, "", false
			}
		}
		params[key] = value
	}
	return params, s, true
}

func isKey(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || strings.ContainsRune("_-.*", r)
}

// bare reads a value.
func bare(s string) (value any, rest string, ok bool) {
	if strings.HasPrefix(s, `"`) {
		text, rest, ok := quoted(s)
		return text, rest, ok
	}
	if strings.HasPrefix(s, ":") {
		bytes, rest, ok := strings.Cut(s[1:], ":")
		return literal(bytes), rest, ok
	}
	end := strings.IndexAny(s, ";, \t")
	if end < 0 {
		end = len(s)
	}
	word := s[:end]
	if n, err := strconv.ParseInt(word, 10, 64); err == nil && len(strings.TrimPrefix(word, "-")) <= 15 && word[0] != '+' {
		return n, s[end:], true
	}
	return literal(word), s[end:], word != "" && !strings.ContainsAny(word, "\"()<>@,\\[]{}")
}

// quoted reads a string.
func quoted(s string) (text, rest string, ok bool) {
	if !strings.HasPrefix(s, `"`) {
		return "", "", false
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return b.String(), s[i+1:], true
		case c == '\\' && i+1 < len(s) && (s[i+1] == '"' || s[i+1] == '\\'):
			i++
			b.WriteByte(s[i])
		case c == '\\' || c < ' ' || c > '~':
			return "", "", false
		default:
			b.WriteByte(c)
		}
	}
	return "", "", false
}
