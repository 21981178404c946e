package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxFileBytes bounds a configuration file. The fullest one is under 4 KiB.
const maxFileBytes = 1 << 20

// file adds the layer of a YAML file. It reads nodes rather than values, so
// that each mistake has its line.
func (l *loader) file(path string) {
	root, text, err := readYAML(path)
	l.path, l.lines = path, strings.Split(text, "\n")
	if err != nil {
		l.problems = append(l.problems, Problem{File: path, Message: err.Error()})
		return
	}
	if root == nil {
		return // an empty file changes nothing
	}
	layer := fileLayer{path: path, values: map[string]any{}, places: map[string]place{}}
	layer.mapping("", root)
	l.problems = append(l.problems, layer.problems...)
	l.add(layer.values, layer.places)
	for _, path := range layer.unread {
		l.unread[path] = true
	}
}

// quote puts the lines that mistakes are in beside them.
func (l *loader) quote() {
	for i, p := range l.problems {
		if p.File == l.path && p.Line > 0 && p.Line <= len(l.lines) {
			l.problems[i].Source = strings.TrimSuffix(l.lines[p.Line-1], "\r")
		}
	}
}

func readYAML(path string) (root *yaml.Node, text string, err error) {
	f, err := os.Open(path)
	if err != nil {
		if perr, ok := errors.AsType[*os.PathError](err); ok {
			err = perr.Err
		}
		return nil, "", fmt.Errorf("cannot read the configuration: %w", err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, "", fmt.Errorf("cannot read the configuration: %w", err)
	}
	if len(raw) > maxFileBytes {
		return nil, "", fmt.Errorf("the configuration is over %d bytes", maxFileBytes)
	}
	text = string(raw)
	dec := yaml.NewDecoder(bytes.NewReader(raw))
	var doc yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return nil, text, nil
	} else if err != nil {
		return nil, text, err
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, text, errors.New("the file holds more than one YAML document")
	}
	return doc.Content[0], text, nil
}

// fileLayer walks a file's nodes into typed values by setting.
type fileLayer struct {
	path     string
	values   map[string]any
	places   map[string]place
	unread   []string
	problems Problems
}

func (f *fileLayer) fault(n *yaml.Node, message, hint string) {
	f.problems = append(f.problems, Problem{File: f.path, Line: n.Line, Column: n.Column, Message: message, Hint: hint})
}

func (f *fileLayer) mapping(prefix string, n *yaml.Node) {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return // "http:" with nothing below it
	}
	if n.Kind != yaml.MappingNode {
		f.fault(n, fmt.Sprintf("%s holds settings by name, not a value", orFile(prefix)), "")
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		path := join(prefix, key.Value)
		if line, twice := seen[key.Value]; twice {
			f.fault(key, fmt.Sprintf("%s is set twice, first on line %d", path, line), "keep one of the two")
			continue
		}
		seen[key.Value] = key.Line
		f.entry(path, key, value)
	}
}

func (f *fileLayer) entry(path string, key, value *yaml.Node) {
	k, ok := known()[path]
	switch {
	case unsupported(path):
		f.fault(key, path+" is not supported yet", "remove it")
	case ok:
		f.setting(path, k, value)
	case section(path):
		f.mapping(path, value)
	default:
		f.unread = append(f.unread, nearest(path))
		f.fault(key, fmt.Sprintf("unknown setting %q", path), didYouMean(path))
	}
}

func (f *fileLayer) setting(path string, k kind, n *yaml.Node) {
	f.places[path] = place{source: f.path, line: n.Line, column: n.Column}
	before := len(f.problems)
	f.value(path, k, n)
	if len(f.problems) > before {
		f.unread = append(f.unread, path)
	}
}

func (f *fileLayer) value(path string, k kind, n *yaml.Node) {
	if k == listeners {
		f.values[path] = f.listeners(n)
		return
	}
	if k == texts && n.Kind == yaml.SequenceNode {
		f.values[path] = f.texts(path, n)
		return
	}
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		f.fault(n, path+" needs a single value", "")
		return
	}
	v, err := parse(k, n.Value)
	if err != nil {
		f.fault(n, fmt.Sprintf("%s: %v", path, err), "")
		return
	}
	f.values[path] = v
}

func (f *fileLayer) texts(path string, n *yaml.Node) []string {
	list := []string{}
	for _, item := range n.Content {
		if item.Kind != yaml.ScalarNode {
			f.fault(item, path+" is a list of texts", "")
			continue
		}
		list = append(list, item.Value)
	}
	return list
}

func (f *fileLayer) listeners(n *yaml.Node) []any {
	list := []any{}
	if n.Kind != yaml.SequenceNode {
		f.fault(n, "listen.public is a list of addresses", `write - address: ":8080"`)
		return list
	}
	for _, item := range n.Content {
		if item.Kind != yaml.MappingNode {
			f.fault(item, "an item of listen.public names its address", `write - address: ":8080"`)
			continue
		}
		list = append(list, f.listener(item))
	}
	return list
}

func (f *fileLayer) listener(item *yaml.Node) map[string]any {
	out := map[string]any{}
	for i := 0; i+1 < len(item.Content); i += 2 {
		key, value := item.Content[i], item.Content[i+1]
		switch {
		case key.Value == "address" && value.Kind == yaml.ScalarNode:
			out["address"] = value.Value
		case key.Value == "tls":
			f.fault(key, "listen.public[].tls is not supported yet", "end TLS in front of Forebay, or remove it")
		default:
			f.fault(key, fmt.Sprintf("unknown setting %q", "listen.public[]."+key.Value), "an item has an address")
		}
	}
	return out
}

// environment adds the layer of FOREBAY_SECTION__NAME variables.
func (l *loader) environment(environ []string) {
	values, places, unread := map[string]any{}, map[string]place{}, map[string]bool{}
	sorted := slices.Sorted(slices.Values(environ))
	for _, pair := range sorted {
		name, written, _ := strings.Cut(pair, "=")
		rest, ok := strings.CutPrefix(name, "FOREBAY_")
		if !ok || foreign(rest) {
			continue
		}
		path := strings.ToLower(strings.ReplaceAll(rest, "__", "."))
		places[path] = place{source: name}
		if !l.text(name, path, written, values) {
			unread[path], unread[nearest(path)] = true, true
		}
	}
	l.add(values, places)
	maps.Copy(l.unread, unread)
}

// foreign reports whether a variable with our prefix is not a setting: the
// address that the client commands use, and what Kubernetes puts into every
// pod beside a service that is called forebay.
func foreign(rest string) bool {
	return rest == "ADMIN_URL" ||
		rest == "PORT" || strings.HasPrefix(rest, "PORT_") || strings.HasPrefix(rest, "SERVICE_")
}

// flags adds the layer of command-line flags.
func (l *loader) flags(flags []Flag) {
	values, places, unread := map[string]any{}, map[string]place{}, map[string]bool{}
	for _, f := range flags {
		places[f.Setting] = place{source: f.Name}
		if written, ok := f.Value.(string); ok {
			unread[f.Setting] = !l.text(f.Name, f.Setting, written, values)
			continue
		}
		values[f.Setting] = f.Value
	}
	l.add(values, places)
	maps.Copy(l.unread, unread)
}

// text parses one setting written as text into values.
func (l *loader) text(source, path, written string, values map[string]any) bool {
	k, ok := known()[path]
	if unsupported(path) {
		l.problems = append(l.problems, Problem{File: source, Message: path + " is not supported yet", Hint: "unset it"})
		return false
	}
	if !ok {
		l.problems = append(l.problems, Problem{File: source, Message: fmt.Sprintf("unknown setting %q", path), Hint: didYouMean(path)})
		return false
	}
	v, err := parse(k, written)
	if err != nil {
		l.problems = append(l.problems, Problem{File: source, Message: fmt.Sprintf("%s: %v", path, err)})
		return false
	}
	values[path] = v
	return true
}

func join(prefix, name string) string {
	if prefix == "" {
		return name
	}
	return prefix + "." + name
}

func orFile(prefix string) string {
	if prefix == "" {
		return "the file"
	}
	return prefix
}

func didYouMean(path string) string {
	if name := nearest(path); name != "" {
		return fmt.Sprintf("did you mean %q?", name)
	}
	return ""
}
