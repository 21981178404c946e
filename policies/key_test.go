package policies

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
)

func keyOf(t testing.TB, parts ...string) Key {
	t.Helper()
	var k Key
	for _, s := range parts {
		kind, place, _ := strings.Cut(s, ":")
		p := keyPart{header: place}
		if s == "kafka:key" {
			p.header = RecordKey
		}
		if kind == "json" {
			at, ok := parsePointer(place)
			if !ok {
				t.Fatalf("%q is no pointer", place)
			}
			p = keyPart{pointer: at}
		}
		k.parts = append(k.parts, p)
	}
	return k
}

func TestKey(t *testing.T) {
	long := strings.Repeat("x", maxKeyBytes+1)
	tests := []struct {
		name  string
		parts []string
		body  string
		want  string // empty: no key
	}{
		{"string", []string{"json:/customer_id"}, `{"customer_id": "c-7"}`, "c-7"},
		{"number", []string{"json:/customer_id"}, `{"customer_id": 17850}`, "17850"},
		{"number as written", []string{"json:/n"}, ` {"n" : -1.50E+03 } `, "-1.50E+03"},
		{"beyond a float", []string{"json:/n"}, `{"n":12345678901234567890123}`, "12345678901234567890123"},
		{"true", []string{"json:/n"}, `{"n":true}`, "true"},
		{"null", []string{"json:/n"}, `{"n":null}`, ""},
		{"empty", []string{"json:/n"}, `{"n":""}`, ""},
		{"missing", []string{"json:/n"}, `{"m":1}`, ""},
		{"object", []string{"json:/n"}, `{"n":{"a":1}}`, ""},
		{"list", []string{"json:/n"}, `{"n":[1]}`, ""},
		{"below a scalar", []string{"json:/n/a"}, `{"n":1}`, ""},
		{"nested", []string{"json:/a/b/1/c"}, `{"x":[{"a":9}],"a":{"b":[{"c":1},{"c":2}]}}`, "2"},
		{"index with a zero", []string{"json:/0/01"}, `[[1,2]]`, ""},
		{"index past the end", []string{"json:/-"}, `[1]`, ""},
		{"number as a name", []string{"json:/0"}, `{"0":"zero"}`, "zero"},
		{"escapes in the pointer", []string{"json:/a~1b/~01"}, `{"a/b":{"~1":"x"}}`, "x"},
		{"escapes in the name", []string{"json:/é"}, `{"\u00e9":"x"}`, "x"},
		{"escapes in the value", []string{"json:/n"}, `{"n":"a\u00e9\n\"\ud83d\ude00"}`, "aé\n\"😀"},
		{"name that is empty", []string{"json:/"}, `{"":"x"}`, "x"},
		{"given twice", []string{"json:/n"}, `{"n":1,"n":2}`, "2"},
		{"given twice, then null", []string{"json:/n"}, `{"n":1,"n":null}`, ""},
		{"not JSON after it", []string{"json:/n"}, `{"n":1} x`, ""},
		{"cut off", []string{"json:/n"}, `{"n":1`, ""},
		{"no body", []string{"json:/n"}, ``, ""},
		{"too deep", []string{"json:/n"}, `{"n":1,"d":` + strings.Repeat("[", 600) + strings.Repeat("]", 600) + `}`, ""},
		{"deep", []string{"json:/n"}, `{"n":1,"d":` + strings.Repeat("[", 500) + strings.Repeat("]", 500) + `}`, "1"},
		{"header", []string{"header:X-Shop"}, ``, "berlin"},
		{"header sent twice", []string{"header:X-Twice"}, ``, "a, b"},
		{"header that is blank", []string{"header:X-Blank"}, ``, ""},
		{"header that is missing", []string{"header:X-None"}, `{"X-None":1}`, ""},
		{"tuple", []string{"header:X-Shop", "json:/n"}, `{"n":7}`, "berlin/7"},
		{"tuple that holds its mark", []string{"json:/a", "json:/b"}, `{"a":"x/y","b":"~"}`, "x~1y/~0"},
		{"tuple with a part missing", []string{"header:X-Shop", "json:/n"}, `{}`, ""},
		{"long", []string{"json:/n"}, `{"n":"` + long + `"}`, "a hash"},
		{"none", nil, `{"n":1}`, ""},
	}
	fields := http.Header{"X-Shop": {" berlin "}, "X-Twice": {"a", "b"}, "X-Blank": {" "}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			key, ok := keyOf(t, tt.parts...).Extract(fields.Values, []byte(tt.body))
			if tt.name == "long" {
				if len(key) != len("sha256-")+64 || !strings.HasPrefix(key, "sha256-") {
					t.Errorf("Extract = %q, want a hash", key)
				}
				return
			}
			if key != tt.want || ok != (tt.want != "") {
				t.Errorf("Extract(%s) = %q, %v; want %q", tt.body, key, ok, tt.want)
			}
		})
	}
}

func TestKeyAsWritten(t *testing.T) {
	parts := []string{"json:/a~1b/~01", "header:X-Shop", "kafka:key"}
	k := keyOf(t, parts...)
	if got := k.String(); got != strings.Join(parts, ", ") {
		t.Errorf("String() = %q, want %q", got, parts)
	}
	if !k.Equal(keyOf(t, parts...)) || k.Equal(keyOf(t, parts[0])) || k.Equal(keyOf(t, parts[1], parts[0])) {
		t.Error("Equal tells keys apart that are the same, or does not where they differ")
	}
	if k.IsZero() || !(Key{}).IsZero() {
		t.Error("IsZero is wrong")
	}
}

// What encoding/json finds by building the whole value is what the scan finds.
func FuzzKey(f *testing.F) {
	for _, body := range []string{
		`{"a":{"b":["x",{"c":1e5}]}}`, `{"a":"\ud800","a":"é\u00e9"}`, `[1,[2,null,""],-0.0]`, `{"":{"":true}}`, "{\"a\":\"\xff\"}",
		`{"a":1}{"a":2}`, ` "x" `, `{"a":01}`, `{"a":1.}`, `{"a":"\x"}`, "{\"a\":\"\n\"}", `{"a~b/c":{"0":false}}`, `[tru`, `{"a",1}`,
	} {
		for _, at := range []string{"/a", "/a/b/1/c", "/1/0", "/", "//", "/a~0b~1c/0"} {
			f.Add(at, []byte(body))
		}
	}
	f.Fuzz(func(t *testing.T, at string, body []byte) {
		p, ok := parsePointer(at)
		if !ok || bytes.Count(body, []byte("["))+bytes.Count(body, []byte("{")) > maxDepth {
			return
		}
		if got := p.String(); got != at {
			t.Fatalf("pointer %q is written %q", at, got)
		}
		if got, want := p.find(body), slowFind(p, body); got != want {
			t.Errorf("find(%q) in %q = %q, want %q", at, body, got, want)
		}
	})
}

func slowFind(p pointer, body []byte) string {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil {
		return ""
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return ""
	}
	for _, token := range p {
		switch parent := v.(type) {
		case map[string]any:
			v = parent[token]
		case []any:
			i := arrayIndex(token)
			if i < 0 || i >= len(parent) {
				return ""
			}
			v = parent[i]
		default:
			return ""
		}
	}
	switch v := v.(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	case bool:
		if v {
			return "true"
		}
		return "false"
	}
	return ""
}

// The key of a record is taken as it is; a request has none.
func TestKeyOfRecords(t *testing.T) {
	k := keyOf(t, "kafka:key", "json:/n")
	record := func(name string) []string {
		if name != RecordKey {
			t.Errorf("it asks for %q", name)
		}
		return []string{" a/b "}
	}
	if got, ok := k.Extract(record, []byte(`{"n":7}`)); got != " a~1b /7" || !ok {
		t.Errorf("Extract = %q, %v", got, ok)
	}
	if got, ok := k.Extract(func(string) []string { return nil }, []byte(`{"n":7}`)); ok {
		t.Errorf("Extract of a request = %q", got)
	}
	if !k.OfRecords() || keyOf(t, "json:/n", "header:X-Shop").OfRecords() {
		t.Error("OfRecords is wrong")
	}
}
