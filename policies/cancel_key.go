package policies

import "slices"

// Bounds of what one message costs to read: keys that it has, and values that are
// looked at to find them.
const (
	maxCancelKeys   = 256
	maxCancelValues = 1 << 16
)

// CancelKeys says where the keys are by which a message can be cancelled. A
// pointer may have * in place of a name or an index: it stands for every member
// and every element there. The zero CancelKeys finds none. It is immutable.
type CancelKeys struct{ parts []keyPart }

// IsZero reports whether the policy has no cancel key: then a message is
// cancelled by its ordering key.
func (c CancelKeys) IsZero() bool { return len(c.parts) == 0 }

// Extract returns the distinct cancel keys of a message, in the order of the body
// and at most 256; nil for the zero CancelKeys, and not nil where a message has
// none. Values are read as [Key.Extract] reads them. Of several parts every
// combination is a key, written as a key of several parts is. The body is read
// once.
func (c CancelKeys) Extract(header func(name string) []string, body []byte) []string {
	if c.IsZero() {
		return nil
	}
	values := c.values(header, body)
	keys := []string{}
	for i, texts := range values {
		keys = combine(keys, texts, i == 0, len(values) > 1)
	}
	for i, key := range keys {
		keys[i] = StoredKey(key)
	}
	return keys
}

// combine puts every text behind every key.
func combine(keys, texts []string, first, tuple bool) []string {
	if first {
		keys = []string{""}
	}
	out := []string{}
	for _, key := range keys {
		for _, text := range texts {
			if len(out) == maxCancelKeys {
				return out
			}
			if tuple {
				text = escapePart(text)
			}
			if !first {
				text = key + "/" + text
			}
			out = append(out, text)
		}
	}
	return out
}

// values are the distinct values of each part.
func (c CancelKeys) values(header func(name string) []string, body []byte) [][]string {
	values := make([][]string, len(c.parts))
	var wanted []want
	for i, p := range c.parts {
		if p.header == "" {
			wanted = append(wanted, want{i, p.pointer})
			continue
		}
		if text := p.extract(header, nil); text != "" {
			values[i] = []string{text}
		}
	}
	seen := make([]map[string]bool, len(c.parts))
	for _, h := range gather(wanted, body) {
		if text := h.text(); text != "" && len(values[h.part]) < maxCancelKeys && !seen[h.part][text] {
			if seen[h.part] == nil {
				seen[h.part] = make(map[string]bool)
			}
			seen[h.part][text] = true
			values[h.part] = append(values[h.part], text)
		}
	}
	return values
}

// want is a part of a key and what is left of the way to it.
type want struct {
	part int
	rest pointer
}

// hit is a scalar that a part leads to, as the body has it.
type hit struct {
	part int
	raw  []byte
}

func (h hit) text() string {
	if h.raw[0] == '"' {
		return unquote(h.raw)
	}
	if string(h.raw) == "null" {
		return ""
	}
	return string(h.raw)
}

// gather returns the scalars that pointers lead to, in the order of the body, or
// none where that is not JSON. It reads the body once.
func gather(wanted []want, body []byte) []hit {
	if len(wanted) == 0 {
		return nil
	}
	g := gatherer{scanner: scanner{data: body}}
	hits := g.value(wanted, 0)
	if g.space(); g.failed || g.at != len(body) {
		return nil
	}
	return hits
}

type gatherer struct {
	scanner
	found int // so far, to bound them
}

func (g *gatherer) value(wanted []want, depth int) []hit {
	if len(wanted) == 0 {
		g.scanner.value(nil, false, depth)
		return nil
	}
	g.space()
	switch c := g.peek(); {
	case depth > maxDepth:
		g.fail()
		return nil
	case c == '{':
		return g.object(wanted, depth)
	case c == '[':
		return g.array(wanted, depth)
	case c == '"':
		return g.scalar(g.str(), wanted)
	default:
		return g.scalar(g.literal(), wanted)
	}
}

func (g *gatherer) scalar(raw []byte, wanted []want) (hits []hit) {
	for _, w := range wanted {
		if len(w.rest) == 0 && len(raw) > 0 && g.found < maxCancelValues {
			g.found++
			hits = append(hits, hit{w.part, raw})
		}
	}
	return hits
}

// object keeps the hits of each member apart: of two with one name the last
// counts.
func (g *gatherer) object(wanted []want, depth int) []hit {
	g.at++
	if g.space(); g.accept('}') {
		return nil
	}
	var members [][]hit
	place := make(map[string]int)
	for !g.failed {
		g.space()
		quoted := g.str()
		g.space()
		g.expect(':')
		below := descend(wanted, func(token string) bool { return isName(quoted, token) })
		hits := g.value(below, depth+1)
		if len(below) > 0 {
			name := unquote(quoted)
			if i, twice := place[name]; twice {
				members[i] = nil
			}
			place[name] = len(members)
			members = append(members, hits)
		}
		if g.space(); g.accept('}') {
			return slices.Concat(members...)
		}
		g.expect(',')
	}
	return nil
}

func (g *gatherer) array(wanted []want, depth int) (hits []hit) {
	g.at++
	if g.space(); g.accept(']') {
		return nil
	}
	for i := 0; !g.failed; i++ {
		below := descend(wanted, func(token string) bool { return arrayIndex(token) == i })
		hits = append(hits, g.value(below, depth+1)...)
		if g.space(); g.accept(']') {
			return hits
		}
		g.expect(',')
	}
	return nil
}

// descend returns what is wanted of a member or an element.
func descend(wanted []want, is func(token string) bool) (below []want) {
	for _, w := range wanted {
		if len(w.rest) > 0 && (w.rest[0] == every || is(w.rest[0])) {
			below = append(below, want{w.part, w.rest[1:]})
		}
	}
	return below
}

// every is the token of a pointer that stands for all members and elements.
const every = "*"

func (p pointer) many() bool { return slices.Contains(p, every) }

// String is the cancel key as a policy writes it.
func (c CancelKeys) String() string { return Key(c).String() }

// Equal reports whether both are read from the same places.
func (c CancelKeys) Equal(other CancelKeys) bool { return Key(c).Equal(Key(other)) }
