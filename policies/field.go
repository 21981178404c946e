package policies

import (
	"regexp"
	"slices"
	"time"

	"forebay/limiter"
)

// What follows makes the fields of the tables: each kind of value is read, and
// described to editors, in one place. of says where in the object the value goes.

func nameField[T any](of func(*T) *text) field[T] {
	return field[T]{
		name: "name", required: true, shape: nameShape,
		read: func(v value, to *T) { v.id(of(to)) },
	}
}

func refField[T any](name string, of func(*T) *text) field[T] {
	return field[T]{name: name, shape: stringShape, read: func(v value, to *T) { v.ref(of(to)) }}
}

func rateField[T any](name string, of func(*T) *limiter.Rate) field[T] {
	return field[T]{name: name, shape: rateShape, read: func(v value, to *T) { v.rate(of(to)) }}
}

func sizeField[T any](name string, lo, hi int64, of func(*T) *int64) field[T] {
	return field[T]{
		name: name, shape: sizeShape(lo, hi),
		read: func(v value, to *T) { v.size(of(to), lo, hi) },
	}
}

func durationField[T any](name string, lo, hi time.Duration, of func(*T) *time.Duration) field[T] {
	return field[T]{
		name: name, shape: durationShape(lo),
		read: func(v value, to *T) { v.duration(of(to), lo, hi) },
	}
}

func numberField[T any](name string, lo, hi int, of func(*T) *int) field[T] {
	return field[T]{
		name: name, shape: numberShape(lo, hi),
		read: func(v value, to *T) { v.number(of(to), lo, hi) },
	}
}

// choiceField is one of a few words; those in later are of the language and not
// of this version.
func choiceField[T any, W ~string](name string, built, later []W, of func(*T) *W) field[T] {
	words, unbuilt := plainWords(built), plainWords(later)
	return field[T]{
		name: name, shape: enumShape(slices.Concat(words, unbuilt)),
		read: func(v value, to *T) {
			if s, ok := v.choice(words, unbuilt); ok {
				*of(to) = W(s)
			}
		},
	}
}

func plainWords[W ~string](words []W) []string {
	plain := make([]string, len(words))
	for i, w := range words {
		plain[i] = string(w)
	}
	return plain
}

// nested is a mapping.
func nested[T, U any](name string, s *schema[U], of func(*T) *U) field[T] {
	return field[T]{
		name: name, shape: s.shape(),
		read: func(v value, to *T) { s.read(v.as(s.what), of(to)) },
	}
}

// optional is a mapping that is nil where the policy has none.
func optional[T, U any](name string, s *schema[U], of func(*T) **U) field[T] {
	return field[T]{
		name: name, shape: s.shape(),
		read: func(v value, to *T) {
			*of(to) = new(U)
			s.read(v.as(s.what), *of(to))
		},
	}
}

// listOf is a list of mappings.
func listOf[T, U any](name string, s *schema[U], limit int, of func(*T) *[]U) field[T] {
	return field[T]{
		name: name, shape: listShape(s.shape(), 0, limit),
		read: func(v value, to *T) { objects(v, s, limit, of(to)) },
	}
}

func booleanField[T any](name string, of func(*T) *bool) field[T] {
	return field[T]{name: name, shape: booleanShape, read: func(v value, to *T) { v.boolean(of(to)) }}
}

func percentField[T any](name string, of func(*T) *float64) field[T] {
	return field[T]{name: name, shape: percentShape, read: func(v value, to *T) { v.percent(of(to)) }}
}

func zoneField[T any](name string, of func(*T) **time.Location) field[T] {
	return field[T]{name: name, shape: stringShape, read: func(v value, to *T) { v.location(of(to)) }}
}

// refsField is a list of names of other objects.
func refsField[T any](name string, least, limit int, of func(*T) *[]text) field[T] {
	return field[T]{
		name: name, shape: listShape(stringShape, least, limit),
		read: func(v value, to *T) {
			v.refs(limit, of(to))
			if least > 0 && v.emptyList() {
				v.fail("name one, or leave "+name+" out", "%s is empty", name)
			}
		},
	}
}

// fileField is the name of a file that the server reads.
func fileField[T any](name string, of func(*T) *string) field[T] {
	return field[T]{
		name: name, shape: shape{"type": "string", "minLength": 1},
		read: func(v value, to *T) { v.file(of(to)) },
	}
}

func secretField[T any](name string, of func(*T) *Secret) field[T] {
	return field[T]{name: name, shape: patternShape(secretForm.String()), read: func(v value, to *T) { v.secret(of(to)) }}
}

// wordField is a string of one form, for what other systems name; form says it
// in words.
func wordField[T any](name string, pattern *regexp.Regexp, form string, of func(*T) *string) field[T] {
	return field[T]{
		name: name, shape: patternShape(pattern.String()),
		read: func(v value, to *T) { v.form(pattern, form, of(to)) },
	}
}

// wordsField is a list of such strings, at least one and none twice.
func wordsField[T any](name string, pattern *regexp.Regexp, form string, limit int, of func(*T) *[]string) field[T] {
	return field[T]{
		name: name, shape: listShape(patternShape(pattern.String()), 1, limit),
		read: func(v value, to *T) {
			distinct(v, limit, of(to), func(item value, word *string) { item.form(pattern, form, word) })
		},
	}
}

// distinct reads a list that has at least one item and none twice.
func distinct[W comparable](v value, limit int, to *[]W, read func(item value, w *W)) {
	v.list(limit, func(item value) {
		var w, none W
		if read(item, &w); w == none {
			return
		}
		if slices.Contains(*to, w) {
			item.fail("remove one", "%s is listed twice", quote(item.node.Value))
			return
		}
		*to = append(*to, w)
	})
	if v.emptyList() {
		v.fail("write at least one", "%s is empty", v.name)
	}
}

// absent is the hint to a key that this version does not have.
const absent = "remove it: this version does not have it"

// later marks a key that the language has and this version does not.
func (f field[T]) later(hint string) field[T] {
	f.unbuilt = hint
	return f
}

// says tells people what a field is for.
func (f field[T]) says(about string) field[T] {
	f.about = about
	return f
}

// must makes a field required; the example stands in the hint where it is
// missing.
func (f field[T]) must(example string) field[T] {
	f.required = true
	return f.such(example)
}

// such gives a field an example for hints.
func (f field[T]) such(example string) field[T] {
	f.example = example
	return f
}
