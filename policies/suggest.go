package policies

import (
	"slices"
	"strings"
)

// suggest is the hint for a word that is not among the known ones: the nearest,
// else all of them.
func suggest(word string, known []string, label string) string {
	if best := nearest(word, known); best != "" {
		return "did you mean " + best + "?"
	}
	if len(known) == 0 {
		return ""
	}
	return label + ": " + few(known)
}

// few lists words, as many as fit into a hint.
func few(words []string) string {
	const most = 12
	if len(words) > most {
		return strings.Join(words[:most], ", ") + ", …"
	}
	return strings.Join(words, ", ")
}

// nearest returns the known word that is a slip of the pen away, or "".
func nearest(word string, known []string) string {
	const longest = 63
	if len(word) > longest {
		return ""
	}
	lower := strings.ToLower(word)
	best, least := "", 1+max(1, len(word)/3)
	for _, k := range known {
		d := distance(lower, strings.ToLower(k))
		if contains(lower, strings.ToLower(k)) {
			d = min(d, 1)
		}
		if d < least {
			best, least = k, d
		}
	}
	return best
}

// contains reports whether one word holds the other and little else is needed to
// know which is meant.
func contains(a, b string) bool {
	if len(a) > len(b) {
		a, b = b, a
	}
	return len(a) >= 4 && strings.Contains(b, a)
}

// distance counts the insertions, deletions, replacements and swaps of neighbours
// that turn a into b.
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			replace := last[j-1]
			if a[i-1] != b[j-1] {
				replace++
			}
			row[j] = slices.Min([]int{last[j] + 1, row[j-1] + 1, replace})
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
