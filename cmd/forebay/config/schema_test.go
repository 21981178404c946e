package config

import (
	"encoding/json"
	"errors"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

// TestSchema holds the schema to what files are read by: every setting has its
// place, and the patterns take what the parser takes.
func TestSchema(t *testing.T) {
	var root map[string]any
	if err := json.Unmarshal(Schema(), &root); err != nil {
		t.Fatal(err)
	}
	leaf := func(path string) map[string]any {
		at := root
		for name := range strings.SplitSeq(path, ".") {
			if at["additionalProperties"] != false {
				t.Errorf("%s: its object takes unknown settings", path)
			}
			next, ok := at["properties"].(map[string]any)[name].(map[string]any)
			if !ok {
				t.Fatalf("%s is not in the schema", path)
			}
			at = next
		}
		return at
	}
	for path := range known() {
		leaf(path)
	}
	for path := range notYet() {
		got := leaf(path)
		if about, _ := got["description"].(string); got["type"] == nil || !strings.HasSuffix(about, ". (not supported yet)") {
			t.Errorf("%s: schema %v, want one that describes it and says that it is too early", path, got)
		}
	}
	tests := map[string]map[string]bool{
		"shutdown.delay":       {"5s": true, "1h30m": true, "14d": true, "1d12h": true, "250ms": true, "0s": true, "5": false, "soon": false, "-5s": false},
		"buffer.segment_bytes": {"512MiB": true, "10MB": true, "4096": true, "1.5GiB": true, "many": false, "5 MiB": false},
	}
	for path, values := range tests {
		pattern := regexp.MustCompile(leaf(path)["pattern"].(string))
		for value, want := range values {
			_, err := parse(known()[path], value)
			if got := pattern.MatchString(value); got != want || (err == nil) != want {
				t.Errorf("%s: %q matches %v, parses with %v, want %v", path, value, got, err, want)
			}
		}
	}
	if got := leaf("telemetry.log.format")["enum"]; len(got.([]any)) != 2 {
		t.Errorf("formats of the log = %v", got)
	}
}

// TestSchemaAcceptsEverything holds the schema to the whole language, built or not.
func TestSchemaAcceptsEverything(t *testing.T) {
	var root, doc map[string]any
	if err := json.Unmarshal(Schema(), &root); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("testdata/everything.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	if wrong := judge(t, "file", root, doc); wrong != "" {
		t.Error(wrong)
	}
	for mistake, want := range map[string]string{
		"telemetry: { otlp: { sample_ratio: 2 } }":                   "file.telemetry.otlp.sample_ratio",
		"listen: { public: [{ address: x, tls: { cert: x } }] }":     "file.listen.public.tls.cert",
		"listen: { public: [{ tls: {} }] }":                          "file.listen.public.address",
		"limits: { store: { redis: { timeout: 20 } } }":              "file.limits.store.redis.timeout",
		"http: { trusted_proxies: 10.0.0.0/8, idle_timeout: 1m }":    "file.http.trusted_proxies",
		"buffer: { engine: rocks, encryption_key_file: /k, dir: d }": "file.buffer.engine",
		"http: { idle_timeout: soon }":                               "file.http.idle_timeout",
	} {
		var doc map[string]any
		if err := yaml.Unmarshal([]byte(mistake), &doc); err != nil {
			t.Fatal(err)
		}
		if got := judge(t, "file", root, doc); got != want {
			t.Errorf("%s: the schema refuses %q, want %s", mistake, got, want)
		}
	}
}

// judge returns the path of what a schema refuses, or nothing. It knows the
// keywords that Schema uses, and no other.
func judge(t *testing.T, path string, schema map[string]any, v any) string {
	t.Helper()
	for keyword, rule := range schema {
		fits := true
		switch keyword {
		case "$schema", "title", "description", "required", "additionalProperties", "properties", "items":
		case "type":
			fits = slices.ContainsFunc(types(v), func(is string) bool {
				words, several := rule.([]any)
				return rule == is || several && slices.Contains(words, any(is))
			})
		case "enum":
			fits = slices.Contains(rule.([]any), v)
		case "pattern":
			s, isText := v.(string)
			fits = !isText || regexp.MustCompile(rule.(string)).MatchString(s)
		case "minimum", "maximum":
			n, isNumber := number(v)
			fits = !isNumber || (keyword == "minimum") == (n > rule.(float64)) || n == rule.(float64)
		default:
			t.Fatalf("keyword %s is not known to this test", keyword)
		}
		if !fits {
			return path
		}
	}
	list, _ := v.([]any)
	for _, item := range list {
		if wrong := judge(t, path, schema["items"].(map[string]any), item); wrong != "" {
			return wrong
		}
	}
	return judgeMembers(t, path, schema, v)
}

func judgeMembers(t *testing.T, path string, schema map[string]any, v any) string {
	t.Helper()
	members, isObject := v.(map[string]any)
	properties, closed := schema["properties"].(map[string]any)
	if !isObject || !closed {
		return ""
	}
	required, _ := schema["required"].([]any)
	for _, name := range required {
		if members[name.(string)] == nil {
			return path + "." + name.(string)
		}
	}
	for name, member := range members {
		sub, known := properties[name].(map[string]any)
		if !known {
			return path + "." + name
		}
		if wrong := judge(t, path+"."+name, sub, member); wrong != "" {
			return wrong
		}
	}
	return ""
}

func types(v any) []string {
	switch v.(type) {
	case map[string]any:
		return []string{"object"}
	case []any:
		return []string{"array"}
	case string:
		return []string{"string"}
	case int:
		return []string{"integer", "number"}
	case float64:
		return []string{"number"}
	}
	return nil
}

func number(v any) (float64, bool) {
	switch n := v.(type) {
	case int:
		return float64(n), true
	case float64:
		return n, true
	}
	return 0, false
}

// TestEverything reads a file with every construct of the language: what is not
// built is refused by its name, and all else is taken.
func TestEverything(t *testing.T) {
	_, _, err := CheckFile("testdata/everything.yaml")
	var got Problems
	if !errors.As(err, &got) {
		t.Fatalf("CheckFile = %v, want Problems", err)
	}
	var names []string
	for _, p := range got {
		name, ok := strings.CutSuffix(p.Message, " is not supported yet")
		if !ok || p.Line == 0 || p.Hint == "" {
			t.Errorf("%+v: want a place, a hint, and that it is not supported yet", p)
		}
		names = append(names, name)
	}
	want := []string{"listen.public[].tls", "limits", "telemetry.otlp"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("refused (-want +got):\n%s", diff)
	}
}
