package config

import "strings"

// notYet are settings of the language that this version cannot honour. They are
// described, so that an editor helps to write them, and refused when they are read:
// taking them in silence would promise what does not happen.
func notYet() map[string]map[string]any {
	return map[string]map[string]any{
		"buffer.encryption_key_file": later(shape("", text), "The file of the master key that stored messages are encrypted with."),
		"buffer.kafka":               later(map[string]any{"type": "object"}, "The cluster behind buffer.engine: kafka."),
		"listen.admin.tls":           certificate(),
		"limits": later(objectOf(map[string]any{
			"store": objectOf(map[string]any{
				"redis": objectOf(map[string]any{"addresses": shape("", texts), "timeout": shape("", duration)}),
			}),
		}), "Where limits of a cluster are counted."),
		"telemetry.otlp": later(objectOf(map[string]any{
			"endpoint":     shape("", text),
			"sample_ratio": map[string]any{"type": "number", "minimum": 0, "maximum": 1},
		}), "Where traces are sent, and which share of them."),
	}
}

// certificate is what a listener with TLS needs.
func certificate() map[string]any {
	files := objectOf(map[string]any{"cert_file": shape("", text), "key_file": shape("", text)})
	return later(files, "TLS on this address: files in PEM.")
}

// later describes a setting that is refused.
func later(schema map[string]any, about string) map[string]any {
	schema["description"] = about + " (not supported yet)"
	return schema
}

// unsupported reports whether path is, or lies in, a setting that is not built.
func unsupported(path string) bool {
	for s := range notYet() {
		if path == s || strings.HasPrefix(path, s+".") {
			return true
		}
	}
	return false
}
