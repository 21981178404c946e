package config

import (
	"encoding/json"
	"strings"
)

// Schema returns the JSON Schema (draft 7) of the process configuration, for
// editors and for checks before Forebay sees the file. It is made from the table
// that files are read by.
func Schema() []byte {
	root := object()
	root["$schema"] = "http://json-schema.org/draft-07/schema#"
	root["title"] = "Forebay process configuration"
	for path, k := range known() {
		put(root, path, shape(path, k))
	}
	for path, s := range notYet() {
		put(root, path, s)
	}
	// Maps of strings, numbers and lists always have a JSON form.
	data, _ := json.MarshalIndent(root, "", "  ")
	return append(data, '\n')
}

// put hangs the schema of a setting where the setting is in a file.
func put(root map[string]any, path string, schema map[string]any) {
	at := root
	names := strings.Split(path, ".")
	for _, name := range names[:len(names)-1] {
		properties := at["properties"].(map[string]any)
		if properties[name] == nil {
			properties[name] = object()
		}
		at = properties[name].(map[string]any)
	}
	at["properties"].(map[string]any)[names[len(names)-1]] = schema
}

func object() map[string]any {
	return map[string]any{"type": "object", "properties": map[string]any{}, "additionalProperties": false}
}

func objectOf(properties map[string]any) map[string]any {
	o := object()
	o["properties"] = properties
	return o
}

// shape is what the value of a setting looks like in a file.
func shape(path string, k kind) map[string]any {
	switch k {
	case duration:
		return map[string]any{"type": "string", "pattern": `^[0-9.]+(d|h|m|s|ms|us|µs|ns)([0-9.]+(h|m|s|ms|us|µs|ns))*$`}
	case size:
		return map[string]any{"type": []any{"string", "integer"}, "pattern": `^[0-9.]+(KB|MB|GB|TB|KiB|MiB|GiB|TiB)?$`}
	case count:
		return map[string]any{"type": "integer"}
	case texts:
		return map[string]any{"type": "array", "items": map[string]any{"type": "string"}}
	case listeners:
		item := objectOf(map[string]any{"address": shape("", text), "tls": certificate()})
		item["required"] = []any{"address"}
		return map[string]any{"type": "array", "items": item}
	default:
		if words := choices()[path]; words != nil {
			s := map[string]any{"type": "string", "enum": words}
			if path == "buffer.engine" {
				s["description"] = "Where messages are stored: badger, on this machine, or kafka, shared by many (kafka is not supported yet)"
			}
			return s
		}
		return map[string]any{"type": "string"}
	}
}
