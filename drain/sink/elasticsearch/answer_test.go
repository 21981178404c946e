package elasticsearch

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// The short way with the usual answer finds what the long one does.
func TestUsualAnswer(t *testing.T) {
	const one = `{"create":{"status":201}}`
	for n := range 4 {
		usual := `{"errors":false,"items":[` + strings.Join(slices.Repeat([]string{one}, n), ",") + "]}"
		for told := range 5 {
			if got, want := created([]byte(usual), told), told == n; got != want {
				t.Errorf("created(%s, %d) = %v", usual, told, got)
			}
		}
		for i := range usual {
			for _, text := range []string{usual[:i], usual[:i] + " " + usual[i:], usual[:i] + "x" + usual[i+1:]} {
				if created([]byte(text), n) && !json.Valid([]byte(text)) {
					t.Errorf("created(%s, %d) is no JSON", text, n)
				}
			}
		}
		if items, err := decode([]byte(" "+usual), n); err != nil || len(items) != n {
			t.Errorf("decode of %s = %v, %v", usual, items, err)
		}
	}
}
