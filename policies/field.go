package policies

import (
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
func choiceField[T any, W ~string](name string, built []W, later []string, of func(*T) *W) field[T] {
	words := make([]string, len(built))
	for i, w := range built {
		words[i] = string(w)
	}
	return field[T]{
		name: name, shape: enumShape(words),
		read: func(v value, to *T) {
			if s, ok := v.choice(words, later); ok {
				*of(to) = W(s)
			}
		},
	}
}

// nested is a mapping.
func nested[T, U any](name string, s *schema[U], of func(*T) *U) field[T] {
	return field[T]{
		name: name, shape: s.shape(),
		read: func(v value, to *T) { s.read(v.as(s.what), of(to)) },
	}
}

// listOf is a list of mappings.
func listOf[T, U any](name string, s *schema[U], limit int, of func(*T) *[]U) field[T] {
	return field[T]{
		name: name, shape: listShape(s.shape(), 0, limit),
		read: func(v value, to *T) { objects(v, s, limit, of(to)) },
	}
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
