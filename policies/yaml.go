package policies

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// maxFileBytes bounds one policy file.
const maxFileBytes = 1 << 20

// parseYAML returns the root of the one document in a file, or nil after it has
// reported why there is none.
func parseYAML(f File, src *source, found *findings) *yaml.Node {
	refuse := func(line, column int, hint, message string) {
		found.add(place{src, line, column}, hint, message)
	}
	if len(f.Data) > maxFileBytes {
		refuse(1, 1, "split it: lists of several files are joined", "the file is over 1 MiB")
		return nil
	}
	if !utf8.Valid(f.Data) {
		refuse(1, 1, "save the file as UTF-8", "the file is not UTF-8 text")
		return nil
	}
	src.lines = splitLines(string(f.Data))

	meter := &lineMeter{data: f.Data}
	decoder := yaml.NewDecoder(meter)
	var doc, second yaml.Node
	err := decoder.Decode(&doc)
	if errors.Is(err, io.EOF) {
		refuse(1, 1, "begin it with `version: 1`", "the file is empty")
		return nil
	}
	if err == nil && len(doc.Content) > 0 {
		if err = decoder.Decode(&second); errors.Is(err, io.EOF) {
			return unaliased(doc.Content[0], src, found)
		}
	}
	if err == nil {
		refuse(max(second.Line, 1), max(second.Column, 1), "move it to a file of its own", "a policy file holds one document, and this begins another")
		return nil
	}
	line, message := locate(f.Data, src, meter.read, err)
	refuse(line, firstColumn(src, line), syntaxHint(src, line, message), "not YAML: "+message)
	return nil
}

// unaliased refuses anchors and aliases: a value that stands elsewhere hides what
// a policy does, and a nest of them grows without bound.
func unaliased(n *yaml.Node, src *source, found *findings) *yaml.Node {
	if n.Anchor != "" || n.Kind == yaml.AliasNode {
		found.add(place{src, n.Line, n.Column}, "write the value out in each place", "anchors and aliases are not allowed in a policy")
		return nil
	}
	for _, child := range n.Content {
		if unaliased(child, src, found) == nil {
			return nil
		}
	}
	return n
}

// lineMeter hands data out a line at a time, so that what was read tells how far
// the parser had come when it gave up.
type lineMeter struct {
	data []byte
	read int
}

func (m *lineMeter) Read(p []byte) (int, error) {
	if m.read == len(m.data) {
		return 0, io.EOF
	}
	rest := m.data[m.read:]
	if i := bytes.IndexByte(rest, '\n'); i >= 0 {
		rest = rest[:i+1]
	}
	n := copy(p, rest)
	m.read += n
	return n, nil
}

// syntaxError is the form of the parser's messages.
var syntaxError = regexp.MustCompile(`^yaml: (?:line (\d+): )?((?s).*)$`)

// locate finds the line of a syntax error. The parser names the line at which the
// structure around it begins, if any; the mistake is in the line after the
// longest beginning of the file that is still YAML.
func locate(data []byte, src *source, read int, err error) (line int, message string) {
	line, message = 1, strings.TrimPrefix(err.Error(), "yaml: ")
	if m := syntaxError.FindStringSubmatch(err.Error()); m != nil {
		message = m[2]
		if n, err := strconv.Atoi(m[1]); err == nil {
			line = n
		}
	}
	line = min(max(line, 1), max(len(src.lines), 1))
	const maxTries, maxTriedBytes = 100, 128 << 10
	if read > maxTriedBytes {
		return line, message
	}
	reached := splitLines(string(data[:read]))
	for n := len(reached) - 1; n >= max(line-1, 0) && n >= len(reached)-maxTries; n-- {
		var doc yaml.Node
		if yaml.Unmarshal([]byte(strings.Join(reached[:n], "\n")), &doc) == nil {
			return min(n+1, len(src.lines)), message
		}
	}
	return line, message
}

func firstColumn(src *source, line int) int {
	if line > len(src.lines) {
		return 1
	}
	text := src.lines[line-1]
	return utf8.RuneCountInString(text) - utf8.RuneCountInString(strings.TrimLeft(text, " \t")) + 1
}

// syntaxHints say what usually lies behind a message of the parser.
var syntaxHints = []struct{ part, hint string }{
	{"mapping values are not allowed", `check the indentation, and put quotes around a value that holds ": "`},
	{"did not find expected key", "check the indentation of this line against the lines above"},
	{"did not find expected '-' indicator", "check the indentation of this line against the lines above"},
	{"block sequence entries are not allowed", "begin the list on a line of its own"},
	{"did not find expected ',' or ']'", "close the [ that is open here"},
	{"did not find expected ',' or '}'", "close the { that is open here"},
	{"could not find expected ':'", "write `key: value`, with a space after the colon"},
	{"unexpected end of stream", "close the quote that is open here"},
	{"expected node content", "write the value, or close the [ or { that is open here"},
	{"found unknown escape character", "use single quotes: a backslash means itself there"},
	{"cannot start any token", "put quotes around the value"},
}

func syntaxHint(src *source, line int, message string) string {
	if line <= len(src.lines) {
		text := src.lines[line-1]
		if strings.Contains(text[:len(text)-len(strings.TrimLeft(text, " \t"))], "\t") {
			return "indent with spaces: YAML does not allow tabs there"
		}
	}
	for _, h := range syntaxHints {
		if strings.Contains(message, h.part) {
			return h.hint
		}
	}
	return "check this line and the one above"
}

// splitLines cuts where the YAML parser counts a new line.
func splitLines(text string) []string {
	text = strings.TrimPrefix(text, "\ufeff")
	text = strings.NewReplacer("\r\n", "\n", "\r", "\n", "\u0085", "\n", "\u2028", "\n", "\u2029", "\n").Replace(text)
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}
