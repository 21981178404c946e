package ingress

import (
	"bufio"
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"forebay/policies"
)

// cutAll returns all parts, or those before the fault.
func cutAll(split policies.Split, body string) (all []string, n int, fault string) {
	p := newParts(split, []byte(body))
	for {
		part, fault := p.next()
		if fault != "" || part == nil {
			return all, p.n, fault
		}
		all = append(all, string(part))
	}
}

func TestSplit(t *testing.T) {
	const lines, ndjson, array = policies.SplitLines, policies.SplitNDJSON, policies.SplitJSONArray
	tests := []struct {
		name  string
		split policies.Split
		body  string
		want  []string
		bad   int // the part that is refused; 0: none
	}{
		{"lines", lines, "a\nb\n", []string{"a", "b"}, 0},
		{"no last newline", lines, "a\nb", []string{"a", "b"}, 0},
		{"CRLF", lines, "a\r\nb\r\n", []string{"a", "b"}, 0},
		{"empty lines", lines, "\n\r\na\n\n\nb\n\n", []string{"a", "b"}, 0},
		{"any bytes", lines, "\x00\xff\n \n", []string{"\x00\xff", " "}, 0},
		{"nothing", lines, "", nil, 0},
		{"newlines alone", lines, "\n\n", nil, 0},
		{"ndjson", ndjson, "{\"a\":1}\r\n\n[2]\n3", []string{`{"a":1}`, "[2]", "3"}, 0},
		{"bad line", ndjson, "1\n\n{]\n4\n", []string{"1"}, 3},
		{"bad last line", ndjson, "1\n{\"a\":", []string{"1"}, 2},
		{"spaces are no value", ndjson, "1\n  \n", []string{"1"}, 2},
		{"two values in a line", ndjson, "1 2", nil, 1},
		{"array", array, ` [ {"a" : 1} , 2,"x" ] `, []string{`{"a" : 1}`, "2", `"x"`}, 0},
		{"nested array", array, `[[1,2],[]]`, []string{"[1,2]", "[]"}, 0},
		{"over several lines", array, "[\n1,\n2\n]\n", []string{"1", "2"}, 0},
		{"empty array", array, " [ ] ", nil, 0},
		{"no array", array, `{"a":1}`, nil, 1},
		{"no array at all", array, "", nil, 1},
		{"bad element", array, `[1,2,tru]`, []string{"1", "2"}, 3},
		{"no comma", array, `[1 2]`, nil, 1},
		{"comma at the end", array, `[1,]`, []string{"1"}, 2},
		{"array without end", array, `[1,2`, []string{"1"}, 2},
		{"something behind it", array, `[1,2]x`, []string{"1"}, 2},
		{"something behind an empty one", array, `[]x`, nil, 1},
	}
	for _, tt := range tests {
		got, n, fault := cutAll(tt.split, tt.body)
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: parts (-want +got):\n%s", tt.name, diff)
		}
		if tt.bad > 0 && (n != tt.bad || fault == "") || tt.bad == 0 && fault != "" {
			t.Errorf("%s: part %d, fault %q; want part %d", tt.name, n, fault, tt.bad)
		}
	}
}

func FuzzSplitLines(f *testing.F) {
	for _, s := range []string{"", "a", "a\nb\n", "a\r\nb\r", "\r\n\n\r\r\n", "{}\nx"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body string) {
		var want []string
		scanner := bufio.NewScanner(strings.NewReader(body))
		scanner.Buffer(nil, len(body)+2)
		valid := true
		for scanner.Scan() {
			if line := scanner.Text(); line != "" {
				want = append(want, line)
				valid = valid && json.Valid([]byte(line))
			}
		}
		got, _, fault := cutAll(policies.SplitLines, body)
		if diff := cmp.Diff(want, got); diff != "" || fault != "" {
			t.Errorf("fault %q, lines of %q (-bufio +got):\n%s", fault, body, diff)
		}
		got, _, fault = cutAll(policies.SplitNDJSON, body)
		if (fault == "") != valid || valid && !cmp.Equal(want, got) {
			t.Errorf("ndjson of %q: %q, fault %q; want %q, valid %t", body, got, fault, want, valid)
		}
	})
}

func FuzzSplitArray(f *testing.F) {
	for _, s := range append(jsonSeeds(), `[1,"]",{"a":[2]}]`, `[1]2`, `[]`, `[ ]x`) {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var want []json.RawMessage
		valid := json.Valid(body) && bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("["))
		got, n, fault := cutAll(policies.SplitJSONArray, string(body))
		if (fault == "") != valid {
			t.Fatalf("split %q: part %d, fault %q, want valid %t", body, n, fault, valid)
		}
		if !valid {
			return
		}
		if err := json.Unmarshal(body, &want); err != nil || len(want) != len(got) {
			t.Fatalf("split %q: %q, want %q, %v", body, got, want, err)
		}
		for i := range want {
			if string(want[i]) != got[i] {
				t.Errorf("element %d of %q: %q, want %q", i+1, body, got[i], want[i])
			}
		}
	})
}
