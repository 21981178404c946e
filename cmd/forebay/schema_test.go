package main

import (
	"encoding/json"
	"regexp"
	"slices"
	"testing"

	"forebay/cmd/forebay/config"
	"forebay/policies"
)

// common is what RE2 and ECMA-262 read in the same way, with and without flag u:
// classes without brackets in them, literals, groups, anchors and counted or
// simple repetition. A dot stands for other characters in one than in the other,
// and so does an escape that is none of these.
var common = regexp.MustCompile(`^(\((\?:)?|(` +
	`\[\^?([^\[\]\\]|` + escaped + `)+\]` + `|` + // a class
	escaped + `|` +
	`\)|` +
	`[^\\.\[\]{}()*+?]` +
	`)([*+?]|\{[0-9]+(,[0-9]*)?\})?)+$`)

const escaped = `\\(x[0-9a-f]{2}|[$()*+./?\[\\\]^{|}])`

func TestSchemaPatternsAreOfEveryEngine(t *testing.T) {
	for name, text := range map[string][]byte{"policy": policies.SchemaPolicy(), "server": config.Schema()} {
		var schema any
		if err := json.Unmarshal(text, &schema); err != nil {
			t.Fatal(err)
		}
		found := patterns(schema)
		if len(found) < 2 {
			t.Errorf("%s: %d patterns found", name, len(found))
		}
		for _, p := range found {
			if _, err := regexp.Compile(p); err != nil || !common.MatchString(p) {
				t.Errorf("%s: %s is not read alike by all engines (%v)", name, p, err)
			}
		}
	}
}

// patterns are those anywhere in a schema, each once.
func patterns(schema any) (list []string) {
	switch schema := schema.(type) {
	case []any:
		for _, s := range schema {
			list = append(list, patterns(s)...)
		}
	case map[string]any:
		for name, s := range schema {
			if p, ok := s.(string); ok && name == "pattern" {
				list = append(list, p)
			}
			list = append(list, patterns(s)...)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

func TestSchemaPatternsInCommon(t *testing.T) {
	for pattern, want := range map[string]bool{
		`^[a-z0-9._-]{1,63}$`: true, `^\$\{(env|file):[^{}]+\}$`: true, `^[^\x00-\x1f\x7f]*$`: true, `^(?:a|b)?$`: true, `^\[[0-9]+\]$`: true,
		`[[:cntrl:]]`: false, `[[]`: false, `[]a]`: false, `a{`: false, `a]`: false, `.`: false, `\pL`: false, `\z`: false,
		`(?i)a`: false, `(?P<n>a)`: false, `(a)??`: false, `a**`: false, `{2}`: false, `\d`: false, `\s`: false, `\Q`: false, `\-`: false, `[\-]`: false, `[\d]`: false,
	} {
		if got := common.MatchString(pattern); got != want {
			t.Errorf("%s in common: %v, want %v", pattern, got, want)
		}
	}
}
