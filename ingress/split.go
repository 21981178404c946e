package ingress

import (
	"bytes"
	"slices"

	"forebay/policies"
)

// parts cuts a body into the bodies of its messages, which share its memory.
type parts struct {
	split policies.Split
	rest  []byte
	n     int // the line, or element, that came last; from 1
	ended bool
}

func newParts(split policies.Split, body []byte) parts { return parts{split: split, rest: body} }

// most is how many parts there can be at most, where a look tells.
func (p *parts) most() (n int, known bool) {
	if p.split == policies.SplitJSONArray {
		return 0, false
	}
	return bytes.Count(p.rest, []byte{'\n'}) + 1, true
}

// next returns the next part; nil at the end. fault says why the body is to be
// refused because of part n.
func (p *parts) next() (part []byte, fault string) {
	if p.split == policies.SplitJSONArray {
		return p.nextElement()
	}
	for len(p.rest) > 0 {
		line := p.nextLine()
		if len(line) == 0 {
			continue
		}
		if p.split == policies.SplitNDJSON {
			if fault = jsonFault(line); fault != "" {
				return nil, fault
			}
		}
		return line, ""
	}
	return nil, ""
}

// nextLine cuts a line as bufio.ScanLines does.
func (p *parts) nextLine() []byte {
	p.n++
	line := p.rest
	if i := bytes.IndexByte(line, '\n'); i >= 0 {
		line, p.rest = line[:i], line[i+1:]
	} else {
		p.rest = nil
	}
	if n := len(line); n > 0 && line[n-1] == '\r' {
		line = line[:n-1]
	}
	return slices.Clip(line)
}

func (p *parts) nextElement() (element []byte, fault string) {
	if p.ended {
		return nil, ""
	}
	i := skipSpace(p.rest, 0)
	p.n++
	if p.n == 1 {
		if i >= len(p.rest) || p.rest[i] != '[' {
			return nil, "is not there: the body is not a JSON array"
		}
		i = skipSpace(p.rest, i+1)
		if i < len(p.rest) && p.rest[i] == ']' {
			return p.end(i + 1)
		}
	}
	after := skipValue(p.rest, i, 1)
	switch {
	case after == tooDeep:
		return nil, faultTooDeep
	case after < 0:
		return nil, faultNotJSON
	}
	element = p.rest[i:after:after]
	next, ended := skipComma(p.rest, after, ']')
	if next == malformed {
		return nil, "is not followed by a comma or the end of the array"
	}
	if ended {
		if _, fault = p.end(next); fault != "" {
			return nil, fault
		}
		return element, ""
	}
	p.rest = p.rest[next:]
	return element, ""
}

// end checks that nothing follows the array, which ends before i.
func (p *parts) end(i int) (none []byte, fault string) {
	p.ended = true
	if skipSpace(p.rest, i) != len(p.rest) {
		return nil, "is followed by more than the end of the array"
	}
	return nil, ""
}

// unit is what a part is to its sender.
func (p *parts) unit() string {
	if p.split == policies.SplitJSONArray {
		return "element"
	}
	return "line"
}
