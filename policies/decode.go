package policies

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// decoder is what all values of one file share.
type decoder struct {
	src   *source
	found *findings
	zones zones
	*calendars
}

// value is a node of the file with the name that mistakes call it by.
type value struct {
	*decoder
	node *yaml.Node
	name string
}

// text is a word of the policy and where it stands. It is empty where the policy
// has none or a wrong one, which has been reported then.
type text struct {
	word string
	place
}

func (v value) place() place { return place{v.src, v.node.Line, v.node.Column} }

// fail reports a mistake at v.
func (v value) fail(hint, format string, args ...any) {
	v.found.add(v.place(), hint, fmt.Sprintf(format, args...))
}

// notYet refuses a construct of the language that this version does not have.
func (v value) notYet(hint, name string) {
	v.fail(hint, "%s is not supported yet", name)
}

// field is one key of an object: how it is read, into what, and what it looks
// like to an editor.
type field[T any] struct {
	name     string
	about    string // one line for people, in editors
	example  string // of a value, for hints
	required bool
	read     func(v value, to *T)
	shape    shape
	// unbuilt is the hint to a key that the language has and this version does not.
	// Such a key is read like any other, so that its mistakes show, and then refused.
	unbuilt string
}

// schema is the table of an object's keys.
type schema[T any] struct {
	what   string // with its article: "a stream"
	fields []field[T]
	// oneOf are the keys of which an object has exactly one.
	oneOf []string
	// preset, if any, fills in the defaults before the keys are read; check, if any,
	// looks at all of them after.
	preset func(to *T)
	check  func(v value, to *T, keys keys)
}

// keys are the values of a mapping by key.
type keys map[string]*yaml.Node

// at is the value of a key that is there.
func (k keys) at(v value, name string) value { return value{v.decoder, k[name], name} }

// read decodes a mapping and reports all that is wrong with it. It returns nil
// where it is none.
func (s *schema[T]) read(v value, to *T) keys {
	if s.preset != nil {
		s.preset(to)
	}
	if v.node.Kind != yaml.MappingNode {
		v.fail("write it as keys with values, such as "+s.fields[0].sample(), "%s must be a mapping, not %s", v.name, kind(v.node))
		return nil
	}
	seen := make(keys, len(v.node.Content)/2)
	for i := 0; i+1 < len(v.node.Content); i += 2 {
		key := value{v.decoder, v.node.Content[i], "a key"}
		if key.node.Kind != yaml.ScalarNode {
			key.fail("known keys: "+few(s.known(false)), "a key must be a word, not %s", kind(key.node))
			continue
		}
		name := key.node.Value
		if first := seen[name]; first != nil {
			key.fail(fmt.Sprintf("it has a value in line %d already", first.Line), "key %s is given twice", quote(name))
			continue
		}
		seen[name] = v.node.Content[i+1]
		s.readKey(key, value{v.decoder, seen[name], name}, to)
	}
	for _, f := range s.fields {
		if f.required && seen[f.name] == nil {
			v.fail("add "+f.sample(), "%s has no %s", s.what, f.name)
		}
	}
	s.checkOneOf(v, seen)
	if s.check != nil {
		s.check(v, to, seen)
	}
	return seen
}

func (s *schema[T]) readKey(key, v value, to *T) {
	i := slices.IndexFunc(s.fields, func(f field[T]) bool { return f.name == v.name })
	if i < 0 {
		key.fail(s.hint(v.name), "unknown key %s in %s", quote(v.name), s.what)
		return
	}
	f := s.fields[i]
	if f.unbuilt != "" {
		key.notYet(f.unbuilt, f.name)
	}
	if isNull(v.node) {
		v.fail("give it one, or remove the key", "%s has no value", v.name)
		return
	}
	f.read(v, to)
}

// checkOneOf reports an object that has none of the keys of which it must have
// one, or a second of them.
func (s *schema[T]) checkOneOf(v value, seen keys) {
	var have []string
	for _, name := range s.oneOf {
		if seen[name] != nil {
			have = append(have, name)
		}
	}
	switch {
	case len(s.oneOf) > 0 && len(have) == 0:
		usual := slices.IndexFunc(s.fields, func(f field[T]) bool { return f.name == s.oneOf[0] })
		none := "no"
		if len(s.oneOf) > 1 {
			none = "none of"
		}
		v.fail("add "+s.fields[usual].sample(), "%s has %s %s", s.what, none, strings.Join(s.oneOf, ", "))
	case len(have) > 1:
		seen.at(v, have[1]).fail("keep one, or make two of it", "%s has both %s and %s", s.what, have[0], have[1])
	}
}

// hint is what may have been meant by an unknown key.
func (s *schema[T]) hint(name string) string {
	if best := nearest(name, s.known(false)); best != "" {
		return "did you mean " + best + "?"
	}
	if best := nearest(name, s.known(true)); best != "" {
		return "did you mean " + best + "? it is not supported yet"
	}
	return "known keys: " + few(s.known(false))
}

// known are the keys that this version has; with unbuilt set, all of the language.
func (s *schema[T]) known(unbuilt bool) []string {
	names := make([]string, 0, len(s.fields))
	for _, f := range s.fields {
		if unbuilt || f.unbuilt == "" {
			names = append(names, f.name)
		}
	}
	return names
}

// sample is the field as a policy has it.
func (f field[T]) sample() string {
	if f.example == "" {
		return "`" + f.name + ": …`"
	}
	return "`" + f.name + ": " + f.example + "`"
}

// list calls each for every item of a list of at most limit.
func (v value) list(limit int, each func(item value)) {
	if v.node.Kind != yaml.SequenceNode {
		hint := "write it as a list"
		if v.node.Kind == yaml.ScalarNode {
			hint = fmt.Sprintf("write [%s]", quote(v.node.Value))
		}
		v.fail(hint, "%s must be a list, not %s", v.name, kind(v.node))
		return
	}
	for i, n := range v.node.Content {
		item := value{v.decoder, n, "an item of " + v.name}
		if i >= limit {
			item.fail("remove some, or split the object", "%s has more than %d items", v.name, limit)
			return
		}
		if isNull(n) {
			item.fail("remove the item, or write it", "%s is empty", item.name)
			continue
		}
		each(item)
	}
}

// objects reads a list of mappings and appends what they hold.
func objects[T any](v value, s *schema[T], limit int, to *[]T) {
	v.list(limit, func(item value) {
		var x T
		if s.read(item.as(s.what), &x) != nil {
			*to = append(*to, x)
		}
	})
}

func (v value) emptyList() bool {
	return v.node.Kind == yaml.SequenceNode && len(v.node.Content) == 0
}

// as returns v under another name.
func (v value) as(name string) value {
	v.name = name
	return v
}

func isNull(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null"
}

// kind names what a node is, for people.
func kind(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	default:
		if isNull(n) {
			return "empty"
		}
		return quote(n.Value)
	}
}

// quote puts a value of the user's into a message, at a length that fits there.
func quote(s string) string {
	const most = 60
	if r := []rune(s); len(r) > most {
		s = string(r[:most]) + "…"
	}
	return strconv.Quote(s)
}
