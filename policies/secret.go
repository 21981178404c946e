package policies

import (
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Secret is a value that a policy refers to and never holds. However it is
// printed, logged or encoded, what comes out is [secret]; Reveal gives it to who
// needs it.
type Secret struct{ value string }

const sealed = "[secret]"

// Reveal returns the secret itself, "" for the zero Secret. What is done with it
// must not end in a log or a message.
func (s Secret) Reveal() string { return s.value }

// String hides the secret.
func (Secret) String() string { return sealed }

// GoString hides the secret from %#v.
func (Secret) GoString() string { return sealed }

// Format hides the secret from every verb, %x among them.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, sealed) } // f keeps the error itself

// MarshalText hides the secret from encoders, and from JSON as a key.
func (Secret) MarshalText() ([]byte, error) { return []byte(sealed), nil }

// MarshalJSON hides the secret.
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + sealed + `"`), nil }

// LogValue hides the secret from slog.
func (Secret) LogValue() slog.Value { return slog.StringValue(sealed) }

// secretForm is the one way to write a secret: a reference, and nothing around it.
// The name of a variable is checked afterwards, for a better message.
var secretForm = regexp.MustCompile(`^\$\{(env|file):([^{}]+)\}$`)

var variableForm = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// secret reads a reference and what it leads to. A secret in the file itself is
// not repeated in the message, nor its line shown.
func (v value) secret(to *Secret) {
	const hint = `write "${env:NAME}" or "${file:/path}", alone in its value`
	s, ok := v.unshown()
	if !ok {
		return
	}
	m := secretForm.FindStringSubmatch(s)
	if m == nil {
		v.hide()
		v.fail(hint, "%s must be a reference: a policy file holds no secrets", v.name)
		return
	}
	kind, name := m[1], m[2]
	if kind == "env" {
		v.fromEnvironment(name, to)
		return
	}
	data, ok := v.content(v.beside(name))
	if !ok {
		return
	}
	v.take(strings.TrimRight(string(data), "\r\n"), "file "+quote(name), to)
}

func (v value) fromEnvironment(name string, to *Secret) {
	if !variableForm.MatchString(name) {
		v.fail("write its name alone, such as ${env:ORDERS_SECRET}", "%s: %s is not an environment variable", v.name, quote(name))
		return
	}
	s, ok := v.outside.lookup(name)
	if !ok {
		v.missing("it has to be set when the server starts", "%s: environment variable %s is not set", v.name, name)
		return
	}
	v.take(s, "environment variable "+name, to)
}

// take keeps what a reference led to.
func (v value) take(s, from string, to *Secret) {
	switch {
	case s == "":
		v.missing("write the secret there", "%s: %s is empty", v.name, from)
	case len(s) > maxSecretBytes:
		v.missing("is it the right one?", "%s: %s is over %s", v.name, from, formatSize(maxSecretBytes))
	case strings.ContainsAny(s, "\x00\r\n"):
		v.missing("one line, with at most a newline at its end", "%s: %s holds more than one line", v.name, from)
	default:
		*to = Secret{s}
	}
}

// unshown is str for a value that is in no message.
func (v value) unshown() (string, bool) {
	if v.node.Kind != yaml.ScalarNode {
		return v.str() // which says no more than that
	}
	if v.node.ShortTag() != "!!str" {
		v.hide()
		v.fail(`write "${env:NAME}" or "${file:/path}"`, "%s must be a reference: a policy file holds no secrets", v.name)
		return "", false
	}
	return v.node.Value, true
}

// hide keeps the lines of a value out of what is shown with mistakes, theirs and
// those of their neighbours.
func (v value) hide() {
	last := v.node.Line + strings.Count(v.node.Value, "\n") + 1
	for i := v.node.Line - 1; i < min(last, len(v.src.lines)); i++ {
		v.src.lines[i] = ""
	}
}
