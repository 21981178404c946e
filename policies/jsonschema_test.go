package policies

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// What every policy that loads looks like is what the schema describes.
func TestSchemaAcceptsWhatLoads(t *testing.T) {
	for _, pattern := range []string{"examples/*.yaml", "testdata/good-*.yaml", "testdata/warn-*.yaml", "testdata/whole-*.yaml", "testdata/bad-not-supported.yaml"} {
		for _, path := range glob(t, pattern, 1) {
			if wrong := validate(t, path); wrong != "" {
				t.Errorf("%s: %s", path, wrong)
			}
		}
	}
}

// A mistake of shape is one that an editor can show. These are of meaning: names,
// dates, zones, hosts and ties, ranges that end before they begin, limits of
// sizes and durations with a unit, and what two fields say together.
var ofMeaning = []string{
	"backoff", "bulk", "claimed-path", "duplicate-name", "link-local", "local", "midnight", "not-supported", "overflow", "reference", "reserve", "tie", "zone",
}

// Of what is no YAML, or no policy's YAML, the schema never hears.
var ofSyntax = regexp.MustCompile(`^bad-(yaml-.*|anchor|duplicate-key|empty|two-documents)\.yaml$`)

func TestSchemaRefusesMistakesOfShape(t *testing.T) {
	for _, path := range glob(t, "testdata/bad-*.yaml", 40) {
		name := filepath.Base(path)
		if ofSyntax.MatchString(name) {
			continue
		}
		meaning := slices.Contains(ofMeaning, strings.TrimSuffix(strings.TrimPrefix(name, "bad-"), ".yaml"))
		if wrong := validate(t, path); (wrong == "") != meaning {
			t.Errorf("%s: the schema says %q; a mistake of meaning alone: %v", path, wrong, meaning)
		}
	}
}

func TestSchemaIsComplete(t *testing.T) {
	schema := policySchema(t)
	if schema["$schema"] != "http://json-schema.org/draft-07/schema#" || schema["title"] == nil {
		t.Errorf("the schema begins with %v, %v", schema["$schema"], schema["title"])
	}
	complete(t, "policy", schema)
}

// complete finds a field of the tables whose shape was forgotten.
func complete(t *testing.T, path string, schema map[string]any) {
	t.Helper()
	if schema["type"] == nil && schema["enum"] == nil && schema["anyOf"] == nil {
		t.Errorf("%s has no shape: %v", path, schema)
	}
	properties, _ := schema["properties"].(map[string]any)
	for name, s := range properties {
		sub, ok := s.(map[string]any)
		if about, _ := sub["description"].(string); !strings.HasSuffix(strings.TrimSuffix(about, " (not supported yet)"), ".") {
			t.Errorf("%s.%s is described as %q, want a sentence", path, name, about)
		}
		if !ok {
			t.Errorf("%s.%s has no shape", path, name)
			continue
		}
		complete(t, path+"."+name, sub)
	}
	if items, ok := schema["items"].(map[string]any); ok {
		complete(t, path+"[]", items)
	}
}

// validate returns what the schema says against a policy file, or "".
func validate(t *testing.T, path string) string {
	t.Helper()
	return validateText(t, policySchema(t), readText(t, path))
}

func policySchema(t *testing.T) (schema map[string]any) {
	t.Helper()
	if err := json.Unmarshal(SchemaPolicy(), &schema); err != nil {
		t.Fatal(err)
	}
	compilePatterns(schema)
	return schema
}

// compilePatterns puts regular expressions in the place of patterns.
func compilePatterns(v any) {
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			compilePatterns(item)
		}
	case map[string]any:
		if form, ok := v["pattern"].(string); ok {
			v["pattern"] = regexp.MustCompile(form)
		}
		for _, member := range v {
			compilePatterns(member)
		}
	}
}

func validateText(t *testing.T, schema map[string]any, text string) string {
	t.Helper()
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	if len(doc.Content) == 0 {
		return "nothing"
	}
	return judge(t, schema, plain(doc.Content[0]))
}

// plain is a node as JSON would have it. Editors take dates for strings.
func plain(n *yaml.Node) any {
	switch n.Kind {
	case yaml.MappingNode:
		m := make(map[string]any)
		for i := 0; i < len(n.Content); i += 2 {
			m[n.Content[i].Value] = plain(n.Content[i+1])
		}
		return m
	case yaml.SequenceNode:
		list := make([]any, len(n.Content))
		for i, item := range n.Content {
			list[i] = plain(item)
		}
		return list
	}
	var v any
	if n.ShortTag() == "!!timestamp" || n.Decode(&v) != nil {
		return n.Value
	}
	switch number := v.(type) {
	case int:
		return float64(number)
	case uint64:
		return float64(number)
	}
	return v
}

// judge knows the keywords that SchemaPolicy uses, and no other.
func judge(t *testing.T, schema map[string]any, v any) string {
	t.Helper()
	for keyword, rule := range schema {
		wrong := ""
		switch keyword {
		case "$schema", "title", "description":
		case "type":
			wrong = judgeType(rule, v)
		case "enum":
			if !slices.Contains(rule.([]any), v) {
				wrong = fmt.Sprintf("%v is none of %v", v, rule)
			}
		case "oneOf":
			fits := 0
			for _, s := range rule.([]any) {
				if judge(t, s.(map[string]any), v) == "" {
					fits++
				}
			}
			if fits != 1 {
				wrong = fmt.Sprintf("%d fit of those of which one has to", fits)
			}
		case "anyOf":
			for _, s := range rule.([]any) {
				if wrong = judge(t, s.(map[string]any), v); wrong == "" {
					break
				}
			}
		case "pattern", "minLength", "maxLength":
			if s, ok := v.(string); ok {
				wrong = judgeString(keyword, rule, s)
			}
		case "minimum", "maximum", "exclusiveMinimum":
			if n, ok := v.(float64); ok {
				wrong = judgeNumber(keyword, rule.(float64), n)
			}
		case "items", "minItems", "maxItems":
			if list, ok := v.([]any); ok {
				wrong = judgeList(t, keyword, rule, list)
			}
		case "properties", "required", "additionalProperties":
			if m, ok := v.(map[string]any); ok {
				wrong = judgeObject(t, keyword, schema, m)
			}
		default:
			t.Fatalf("keyword %s is not known to this test", keyword)
		}
		if wrong != "" {
			return wrong
		}
	}
	return ""
}

func judgeType(rule, v any) string {
	types, many := rule.([]any)
	if !many {
		types = []any{rule}
	}
	var is []any
	switch v := v.(type) {
	case map[string]any:
		is = []any{"object"}
	case []any:
		is = []any{"array"}
	case string:
		is = []any{"string"}
	case bool:
		is = []any{"boolean"}
	case float64:
		is = []any{"number"}
		if v == float64(int64(v)) {
			is = append(is, "integer")
		}
	}
	if slices.ContainsFunc(is, func(t any) bool { return slices.Contains(types, t) }) {
		return ""
	}
	return fmt.Sprintf("%v is not of type %v", v, rule)
}

func judgeString(keyword string, rule any, s string) string {
	n := float64(utf8.RuneCountInString(s))
	switch {
	case keyword == "pattern" && !rule.(*regexp.Regexp).MatchString(s),
		keyword == "minLength" && n < rule.(float64),
		keyword == "maxLength" && n > rule.(float64):
		return fmt.Sprintf("%q breaks %s %v", s, keyword, rule)
	}
	return ""
}

func judgeNumber(keyword string, rule, n float64) string {
	switch {
	case keyword == "minimum" && n < rule, keyword == "maximum" && n > rule, keyword == "exclusiveMinimum" && n <= rule:
		return fmt.Sprintf("%v breaks %s %v", n, keyword, rule)
	}
	return ""
}

func judgeList(t *testing.T, keyword string, rule any, list []any) string {
	t.Helper()
	switch n := len(list); {
	case keyword == "minItems" && float64(n) < rule.(float64), keyword == "maxItems" && float64(n) > rule.(float64):
		return fmt.Sprintf("%d items break %s %v", n, keyword, rule)
	case keyword != "items":
		return ""
	}
	for _, item := range list {
		if wrong := judge(t, rule.(map[string]any), item); wrong != "" {
			return wrong
		}
	}
	return ""
}

func judgeObject(t *testing.T, keyword string, schema, m map[string]any) string {
	t.Helper()
	if keyword == "required" {
		for _, name := range schema["required"].([]any) {
			if _, ok := m[name.(string)]; !ok {
				return fmt.Sprintf("%s is missing", name)
			}
		}
		return ""
	}
	properties := schema["properties"].(map[string]any)
	for name, v := range m {
		sub, known := properties[name].(map[string]any)
		if !known {
			return "unknown key " + name
		}
		if wrong := judge(t, sub, v); wrong != "" {
			return name + ": " + wrong
		}
	}
	return ""
}
