package ingress

import (
	"encoding/json"
	"strings"
	"testing"
)

func jsonSeeds() []string {
	return []string{
		``, ` `, `{}`, `[]`, ` [ ] `, `{"a":1}`, `{"a":[{"b":null},true,false,-0.5e+10]}`, `{"a" : 1 , "b" : 2}`,
		`"a"`, `"twelve bytes and a \" quote"`, `"é\u00e9\\\/\b\f\n\r\t"`, "\"\xff\"", `"\ud800"`,
		`0`, `-0`, `-`, `01`, `1.`, `1.5`, `.5`, `1e`, `1e+`, `1E-9`, `+1`, `1 2`, `[1,]`, `[,1]`, `[1 2]`, `[1`,
		`{"a"}`, `{"a":}`, `{"a":1,}`, `{,}`, `{a:1}`, `{"a":1`, `{`, `}`, `"`, `"a`, `"\`, `"\x"`, `"\u12"`, `"\u12g4"`,
		"\"a\nb\"", "\"eight or more\x1f bytes\"", "\"\x7f\"", `tru`, `truer`, `nul`, `false`, `True`, "\ufeff{}", "\u00a01",
		strings.Repeat(`{"a":`, 50) + "1" + strings.Repeat("}", 50),
	}
}

func TestJSONFault(t *testing.T) {
	deep := strings.Repeat("[", maxJSONDepth) + strings.Repeat("]", maxJSONDepth)
	for _, s := range append(jsonSeeds(), deep, "["+deep+"]") {
		if got, want := jsonFault([]byte(s)) == "", json.Valid([]byte(s)); got != want {
			t.Errorf("jsonFault(%.60q): none is %t, json.Valid says %t", s, got, want)
		}
	}
}

func FuzzJSONFault(f *testing.F) {
	for _, s := range jsonSeeds() {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, want := jsonFault(b) == "", json.Valid(b); got != want {
			t.Errorf("jsonFault(%q): none is %t, json.Valid says %t", b, got, want)
		}
	})
}
