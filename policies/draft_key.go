package policies

import (
	"fmt"
	"slices"
	"strings"
)

// maxKeyParts bounds the parts of a key: each is looked for in every message.
const maxKeyParts = 8

var keyShape = listShape(patternShape("^(json:/|header:[!-~]|kafka:key$)"), 1, maxKeyParts)

func keyField[T any](name string, of func(*T) *Key) field[T] {
	return field[T]{
		name: name, shape: keyShape,
		read: func(v value, to *T) { *of(to) = Key{v.keyParts(false)} },
	}
}

// keyParts reads where the parts of a key are; with many set, one may name several
// values.
func (v value) keyParts(many bool) (parts []keyPart) {
	v.list(maxKeyParts, func(item value) {
		s, ok := item.str()
		if !ok {
			return
		}
		p, ok := item.keyPart(s)
		if !ok {
			return
		}
		if p.pointer.many() && !many {
			item.fail("name one element: json:/items/0/sku", "%s names several values, and %s is one: * is for cancel_key alone", quote(s), v.name)
			return
		}
		if slices.ContainsFunc(parts, p.equal) {
			item.fail("remove one", "%s is listed twice", quote(s))
			return
		}
		parts = append(parts, p)
	})
	if v.emptyList() {
		v.fail("leave it out, or name a place such as \"json:/customer_id\"", "%s is empty", v.name)
	}
	return parts
}

func (v value) keyPart(s string) (p keyPart, ok bool) {
	kind, place, _ := strings.Cut(s, ":")
	switch kind {
	case "json":
		p.pointer, ok = v.pointer(place)
	case "header":
		p.header, ok = v.header(place)
	case "kafka":
		if place != "key" {
			v.fail("write kafka:key", "a record of Kafka has no %s to make a key of", quote(place))
			break
		}
		p.header, ok = RecordKey, true
	default:
		hint := `write "json:/customer_id" or "header:X-Customer-Id"`
		if strings.HasPrefix(s, "/") {
			hint = fmt.Sprintf("write %q", "json:"+s)
		}
		v.fail(hint, "%s is no place of a key", quote(s))
	}
	return p, ok
}

func (v value) pointer(s string) (pointer, bool) {
	p, ok := parsePointer(s)
	if len(s) > maxPath {
		v.fail("name a place that is less deep", "a JSON Pointer is too long")
		return nil, false
	}
	if !ok {
		hint := "~ is written ~0 there, and / in a name ~1"
		if !strings.HasPrefix(s, "/") {
			hint = fmt.Sprintf("write %q", "json:/"+strings.ReplaceAll(strings.TrimPrefix(s, "$."), ".", "/"))
		}
		v.fail(hint, "%s is not a JSON Pointer", quote(s))
		return nil, false
	}
	return p, true
}
