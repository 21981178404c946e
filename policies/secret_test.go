package policies

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestSecretIsNeverPrinted(t *testing.T) {
	const hidden = "hunter2"
	s := Secret{hidden}
	holder := OAuth2{ClientID: "forebay", ClientSecret: s}
	printed := make(map[string]string)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T %v"} {
		args := []any{s}
		if verb == "%T %v" {
			args = []any{s, s}
		}
		printed[verb] = fmt.Sprintf(verb, args...)
		printed[verb+" of a pointer"] = fmt.Sprintf(strings.TrimPrefix(verb, "%T "), &s)
		printed[verb+" of what holds it"] = fmt.Sprintf(strings.TrimPrefix(verb, "%T "), holder)
		printed[verb+" of a list"] = fmt.Sprintf(strings.TrimPrefix(verb, "%T "), []Secret{s})
	}
	for name, v := range map[string]any{"json": s, "json of what holds it": holder, "json of a key": map[Secret]int{s: 1}, "json of a pointer": &s} {
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		printed[name] = string(data)
	}
	printed["String"], printed["GoString"] = s.String(), s.GoString()
	var log bytes.Buffer
	for _, h := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		slog.New(h).Info("test", "secret", s, "pointer", &s, "holder", holder, slog.Group("group", "list", []Secret{s}))
	}
	printed["slog"] = log.String()
	for name, text := range printed {
		hex := fmt.Sprintf("%x", hidden)
		if lower := strings.ToLower(text); strings.Contains(lower, hidden) || strings.Contains(lower, hex) || !strings.Contains(text, "[secret]") {
			t.Errorf("%s prints %q, want [secret] in its place", name, text)
		}
	}
	if s.Reveal() != hidden {
		t.Errorf("Reveal() = %q, want the secret", s.Reveal())
	}
}

// secretsOf reads a policy with one secret in it, with some files and variables
// about.
func secretsOf(t *testing.T, reference string, offline bool) (Secret, *findings) {
	t.Helper()
	policy := "version: 1\nsinks:\n  - name: k\n    http:\n      urls: [\"https://k.internal\"]\n" +
		"      auth: { oauth2: { token_url: \"https://id.internal\", client_id: k, client_secret: " + reference + " } }\n"
	set, found, _ := parseWith([]File{{Name: "dir/p.yaml", Data: []byte(policy)}}, &outside{
		offline: offline,
		read: func(name string) ([]byte, error) {
			switch name {
			case "/run/secret", "dir/beside":
				return []byte("from a file\r\n"), nil
			case "/run/blank":
				return []byte("\n"), nil
			case "/run/lines":
				return []byte("one\ntwo\n"), nil
			case "/run/long":
				return []byte(strings.Repeat("x", maxSecretBytes+1)), nil
			case "/run/empty":
				return nil, nil
			}
			return readFile(name)
		},
		lookup: func(name string) (string, bool) {
			values := map[string]string{"SECRET": "from a variable", "EMPTY": ""}
			s, ok := values[name]
			return s, ok
		},
	})
	return set.Sinks[0].HTTP.OAuth2.ClientSecret, found
}

func TestSecretReferences(t *testing.T) {
	for reference, want := range map[string]string{
		`"${env:SECRET}"`: "from a variable", `"${file:/run/secret}"`: "from a file", `"${file:beside}"`: "from a file",
	} {
		s, found := secretsOf(t, reference, false)
		if s.Reveal() != want || found.count() != 0 {
			t.Errorf("%s is %q with %v, want %q", reference, s.Reveal(), found.errors(), want)
		}
	}
	tests := map[string]string{ // what is missing: a warning offline, a mistake at start
		`"${env:NONE}"`:        "client_secret: environment variable NONE is not set",
		`"${env:EMPTY}"`:       "client_secret: environment variable EMPTY is empty",
		`"${file:/run/none}"`:  `client_secret: file "/run/none": no such file or directory`,
		`"${file:/run/empty}"`: `client_secret: file "/run/empty": the file is empty`,
		`"${file:/run/blank}"`: `client_secret: file "/run/blank" is empty`,
		`"${file:/run/lines}"`: `client_secret: file "/run/lines" holds more than one line`,
		`"${file:/run/long}"`:  `client_secret: file "/run/long" is over 64KiB`,
	}
	for reference, want := range tests {
		s, found := secretsOf(t, reference, true)
		if s != (Secret{}) || found.count() != 0 || len(found.warnings) != 1 || found.warnings[0].message != want {
			t.Errorf("offline, %s: %+v, want the warning %q", reference, found, want)
		}
		_, found = secretsOf(t, reference, false)
		if found.count() != 1 || found.items[0].message != want || len(found.warnings) > 0 {
			t.Errorf("at start, %s: %+v, want the mistake %q", reference, found, want)
		}
	}
}

// A secret that somebody wrote into the file is repeated nowhere: not in the
// message, not in the line that is shown.
func TestLiteralSecretIsNotRepeated(t *testing.T) {
	for _, literal := range []string{
		"hunter2", `"hunter2"`, "7331", "true", `"x${env:hunter2}"`, `"${env:SECRET}hunter2"`, `"${vault:hunter2}"`, `"$SECRET hunter2"`,
		"\"hunter2\n         7331\"", "{ a: b }", "[hunter2]",
	} {
		s, found := secretsOf(t, literal, true)
		text := found.errors().Error()
		if s != (Secret{}) || found.count() < 1 || !strings.Contains(text, "a reference") && !strings.Contains(text, "must be a string") {
			t.Errorf("%s is %q with:\n%s\nwant it to be refused", literal, s.Reveal(), text)
		}
		if strings.HasPrefix(literal, "[") {
			continue // a list is shown: nobody writes a secret so
		}
		if strings.Contains(text, "hunter2") || strings.Contains(text, "7331") {
			t.Errorf("%s is repeated:\n%s", literal, text)
		}
	}
	_, found := secretsOf(t, `"${env:no-name}"`, true)
	if want := `client_secret: "no-name" is not an environment variable`; found.count() != 1 || found.items[0].message != want {
		t.Errorf("a wrong name: %v, want %q", found.items, want)
	}
}
