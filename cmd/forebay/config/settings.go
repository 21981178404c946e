package config

import (
	"fmt"
	"strconv"
	"strings"

	"forebay/policies"
)

// kind is the form of a setting's value.
type kind int

const (
	text kind = iota
	texts
	duration
	size
	count
	listeners
)

// known lists every setting there is.
func known() map[string]kind {
	return map[string]kind{
		"version":                  count,
		"listen.public":            listeners,
		"listen.admin.address":     text,
		"listen.admin.token_file":  text,
		"http.read_header_timeout": duration,
		"http.read_timeout":        duration,
		"http.idle_timeout":        duration,
		"http.max_header_bytes":    size,
		"http.max_connections":     count,
		"http.trusted_proxies":     texts,
		"buffer.engine":            text,
		"buffer.dir":               text,
		"buffer.segment_bytes":     size,
		"buffer.min_free":          size,
		"buffer.max_bytes":         size,
		"policies.paths":           texts,
		"shutdown.delay":           duration,
		"shutdown.timeout":         duration,
		"telemetry.log.level":      text,
		"telemetry.log.format":     text,
	}
}

// choices lists the words of settings that take one of a few.
func choices() map[string][]string {
	return map[string][]string{
		"buffer.engine":        {"badger", "kafka"}, // kafka is not supported yet
		"telemetry.log.level":  {"debug", "info", "warn", "error"},
		"telemetry.log.format": {"text", "json"},
	}
}

// section reports whether path is a level above settings.
func section(path string) bool {
	for name := range known() {
		if strings.HasPrefix(name, path+".") {
			return true
		}
	}
	return false
}

// parse turns what was written into the typed value of a setting.
func parse(k kind, written string) (any, error) {
	switch k {
	case duration:
		return policies.ParseDuration(written)
	case size:
		return policies.ParseSize(written)
	case count:
		n, err := strconv.Atoi(written)
		if err != nil {
			return nil, fmt.Errorf("%q is not a whole number", written)
		}
		return n, nil
	case texts:
		return splitList(written), nil
	case listeners:
		list := []any{}
		for _, address := range splitList(written) {
			list = append(list, map[string]any{"address": address})
		}
		return list, nil
	default:
		return written, nil
	}
}

// splitList reads the one-line form of a list that variables and flags use.
func splitList(s string) []string {
	var list []string
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part != "" {
			list = append(list, part)
		}
	}
	return list
}

// nearest returns the known setting most like path, or nothing when none is close.
func nearest(path string) string {
	best, score := "", len(path)/2+1
	for name := range known() {
		d := distance(path, name)
		if d < score || (d == score && name < best) {
			best, score = name, d
		}
	}
	return best
}

// distance is Levenshtein's: single-letter edits from a to b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
