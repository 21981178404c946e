package policies

import (
	"encoding/json"
	"maps"
	"time"
)

// shape is the JSON Schema of a value: what an editor can tell without knowing
// what names, dates and zones mean. [Parse] is stricter.
type shape map[string]any

// The forms of values, as units.go and scalar.go read them.
const (
	numberForm   = `([0-9]+\.?[0-9]*|\.[0-9]+)`
	timeForm     = `(` + numberForm + `(ns|us|µs|ms|s|m|h))`
	rateForm     = `^(unlimited|` + numberForm + `(/[smh])?)$`
	sizeForm     = `^` + numberForm + `([KMGT]i?B)?$`
	durationForm = `^(` + numberForm + `d` + timeForm + `*|` + timeForm + `+|0)$`
	byteRateForm = `^` + numberForm + `([KMGT]i?B)?(/s)?$`
	percentForm  = `^` + numberForm + `%$`
)

var (
	stringShape  = shape{"type": "string"}
	booleanShape = shape{"type": "boolean"}
	nameShape    = shape{"type": "string", "pattern": nameForm.String(), "maxLength": maxNameBytes}
	rateShape    = shape{"type": []string{"number", "string"}, "minimum": 0, "maximum": int64(maxRate), "pattern": rateForm}
	percentShape = shape{"type": "string", "pattern": percentForm}
)

func numberShape(lo, hi int) shape { return shape{"type": "integer", "minimum": lo, "maximum": hi} }

func sizeShape(lo, hi int64) shape {
	return shape{"type": []string{"integer", "string"}, "minimum": lo, "maximum": hi, "pattern": sizeForm}
}

// durationShape takes a number only where that is 0, which needs no unit.
func durationShape(lo time.Duration) shape {
	if lo > 0 {
		return shape{"type": "string", "pattern": durationForm}
	}
	return shape{"type": []string{"integer", "string"}, "minimum": 0, "maximum": 0, "pattern": durationForm}
}

func enumShape(words []string) shape { return shape{"enum": words} }

func patternShape(form string) shape { return shape{"type": "string", "pattern": form} }

// listShape has room for limit items; where an empty list is a mistake it says so.
func listShape(items shape, least, limit int) shape {
	return shape{"type": "array", "items": items, "minItems": least, "maxItems": limit}
}

// shape describes a mapping, with the keys that this version does not have: an
// editor helps to write them, and [Parse] says that it is too early.
func (s *schema[T]) shape() shape {
	properties := make(shape, len(s.fields))
	var required []string
	for _, f := range s.fields {
		about := f.about
		if f.unbuilt != "" {
			about += " (not supported yet)"
		}
		property := shape{"description": about}
		maps.Copy(property, f.shape)
		properties[f.name] = property
		if f.required {
			required = append(required, f.name)
		}
	}
	out := shape{"type": "object", "properties": properties, "additionalProperties": false}
	if required != nil {
		out["required"] = required
	}
	var one []shape
	for _, name := range s.oneOf {
		one = append(one, shape{"required": []string{name}})
	}
	if one != nil {
		out["oneOf"] = one
	}
	return out
}

// SchemaPolicy returns the JSON Schema (draft 7) of a policy file, for editors and
// for checks before Forebay sees the file. It is made from the tables that files
// are read by. What it accepts may still be a mistake: it knows no names, dates,
// zones or ties.
func SchemaPolicy() []byte {
	out := maps.Clone(policyFile.shape())
	out["$schema"] = "http://json-schema.org/draft-07/schema#"
	out["title"] = "Forebay policy"
	// A map of strings, numbers and lists always has a JSON form.
	data, _ := json.MarshalIndent(out, "", "  ")
	return append(data, '\n')
}
