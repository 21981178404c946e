package policies

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCancelKeys(t *testing.T) {
	const order = `{"id":7,"items":[{"sku":"A","n":1},{"sku":"B/2"},{"n":3},{"sku":null},{"sku":"A"},{"sku":9}],"gifts":{"x":{"sku":"G"},"y":[]}}`
	tests := []struct {
		name  string
		parts []string
		body  string
		want  []string
	}{
		{"not set", nil, order, nil},
		{"every element", []string{"json:/items/*/sku"}, order, []string{"A", "B/2", "9"}},
		{"every member", []string{"json:/gifts/*/sku"}, order, []string{"G"}},
		{"elements and members", []string{"json:/*/*/sku"}, order, []string{"A", "B/2", "9", "G"}},
		{"one place", []string{"json:/id"}, order, []string{"7"}},
		{"one element", []string{"json:/items/1/sku"}, order, []string{"B/2"}},
		{"scalars of a list", []string{"json:/*"}, `["a",null,"",true,{},["b"],"\u0061"]`, []string{"a", "true"}},
		{"a star is no name", []string{"json:/a/*"}, `{"a":{"*":"x","b":"y"}}`, []string{"x", "y"}},
		{"missing", []string{"json:/items/*/ean"}, order, []string{}},
		{"not JSON", []string{"json:/items/*/sku"}, order + "x", []string{}},
		{"no body", []string{"json:/items/*/sku"}, "", []string{}},
		{"too deep", []string{"json:/*"}, `["a",` + strings.Repeat("[", 600) + strings.Repeat("]", 600) + `]`, []string{}},
		{"header", []string{"header:X-Sale"}, order, []string{"spring"}},
		{"tuple", []string{"header:X-Sale", "json:/items/*/sku"}, order, []string{"spring/A", "spring/B~12", "spring/9"}},
		{"tuple of lists", []string{"json:/a/*", "json:/b/*"}, `{"b":[1,2],"a":["x","y"]}`, []string{"x/1", "x/2", "y/1", "y/2"}},
		{"tuple with a part missing", []string{"header:X-None", "json:/items/*/sku"}, order, []string{}},
		{"given twice", []string{"json:/a/*"}, `{"a":[1,2],"b":0,"a":[3]}`, []string{"3"}},
		{"given twice, then null", []string{"json:/*"}, `{"a":1,"a":null}`, []string{}},
	}
	fields := http.Header{"X-Sale": {" spring "}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			keys := CancelKeys(keyOf(t, tt.parts...))
			if diff := cmp.Diff(tt.want, keys.Extract(fields.Values, []byte(tt.body))); diff != "" {
				t.Errorf("Extract (-want +got):\n%s", diff)
			}
			if keys.IsZero() != (tt.parts == nil) || keys.String() != strings.Join(tt.parts, ", ") {
				t.Errorf("IsZero() = %v, String() = %q", keys.IsZero(), keys)
			}
		})
	}
}

// What one message costs is bounded, whatever it holds.
func TestCancelKeysAreBounded(t *testing.T) {
	var list []string
	for i := range 1000 {
		list = append(list, fmt.Sprint(i))
	}
	body := []byte("[" + strings.Join(list, ",") + "]")
	one := CancelKeys(keyOf(t, "json:/*")).Extract(nil, body)
	if len(one) != maxCancelKeys || one[255] != "255" {
		t.Errorf("a list of 1000 has %d keys, want the first %d", len(one), maxCancelKeys)
	}
	body = []byte(`{"a":` + string(body) + `,"b":` + string(body) + `}`)
	if pairs := CancelKeys(keyOf(t, "json:/a/*", "json:/b/*")).Extract(nil, body); len(pairs) != maxCancelKeys || pairs[255] != "0/255" {
		t.Errorf("a million pairs are %d keys, want the first %d", len(pairs), maxCancelKeys)
	}
	// Values that are the same cost no key: what is looked at is bounded apart.
	many := []byte("[" + strings.Repeat(`"same",`, maxCancelValues-1) + `"seen","unseen"]`)
	if got := CancelKeys(keyOf(t, "json:/*")).Extract(nil, many); !slices.Equal(got, []string{"same", "seen"}) {
		t.Errorf("keys of a long list = %q", got)
	}
	long := CancelKeys(keyOf(t, "json:/*")).Extract(nil, []byte(`["`+strings.Repeat("x", maxKeyBytes+1)+`"]`))
	if len(long) != 1 || !strings.HasPrefix(long[0], "sha256-") {
		t.Errorf("a long key is %q, want its hash", long)
	}
}

// What encoding/json finds by building the whole value is what the walk finds.
func FuzzCancelKeys(f *testing.F) {
	for _, body := range []string{
		`{"a":{"b":["x",{"c":1e5}]}}`, `{"a":"\ud800","a":"é\u00e9"}`, `[1,[2,null,""],-0.0]`, `{"a":[1],"a":{"c":[2,3]},"b":{"c":4}}`,
		`{"a":1}{"a":2}`, `{"a":01}`, `[tru`, `{"b":{"c":1,"c":[5]},"\u0062":{"c":6}}`,
	} {
		for _, at := range []string{"/a", "/*", "/*/*", "/a/*/c", "/*/c/*", "/0/*", "/*/c"} {
			f.Add(at, []byte(body))
		}
	}
	f.Fuzz(func(t *testing.T, at string, body []byte) {
		p, ok := parsePointer(at)
		if !ok || len(body) > 1000 || bytes.Count(body, []byte("["))+bytes.Count(body, []byte("{")) > maxDepth {
			return
		}
		keys := CancelKeys{[]keyPart{{pointer: p}}}
		got := keys.Extract(nil, body)
		want := slowGather(p, body)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("keys %q of %q = %q, want %q", at, body, got, want)
		}
	})
}

// slowGather returns the distinct values in order of their text: a map has lost
// that of the body.
func slowGather(p pointer, body []byte) []string {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil {
		return nil
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil
	}
	var texts []string
	var walk func(v any, p pointer)
	walk = func(v any, p pointer) {
		switch v := v.(type) {
		case map[string]any:
			for name, member := range v {
				if len(p) > 0 && (p[0] == "*" || p[0] == name) {
					walk(member, p[1:])
				}
			}
		case []any:
			for i, element := range v {
				if len(p) > 0 && (p[0] == "*" || p[0] == fmt.Sprint(i)) {
					walk(element, p[1:])
				}
			}
		case string:
			if len(p) == 0 && v != "" {
				texts = append(texts, StoredKey(v))
			}
		case json.Number, bool:
			if len(p) == 0 {
				texts = append(texts, StoredKey(fmt.Sprint(v)))
			}
		}
	}
	walk(v, p)
	slices.Sort(texts)
	texts = slices.Compact(texts)
	return texts[:min(len(texts), maxCancelKeys)]
}
