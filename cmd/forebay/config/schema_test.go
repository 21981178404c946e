package config

import (
	"encoding/json"
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
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
	for _, path := range notYet {
		if got := leaf(path); got["not"] == nil || got["description"] != "not supported yet" {
			t.Errorf("%s: schema %v, want one that takes nothing and says why", path, got)
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

// TestEverything reads a file with every construct of the language: what is not
// built is refused by its name, and all else is taken.
func TestEverything(t *testing.T) {
	_, err := CheckFile("testdata/everything.yaml")
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
	want := []string{"listen.public[].tls", "http.trusted_proxies", "buffer.encryption_key_file", "limits", "telemetry.otlp"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("refused (-want +got):\n%s", diff)
	}
}
