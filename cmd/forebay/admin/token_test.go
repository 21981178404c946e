package admin

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReadTokens(t *testing.T) {
	tests := []struct {
		name, text string
		want       []Token
		err        string // in part
	}{
		{name: "one", text: "s3cret\n", want: []Token{{"token", "s3cret"}}},
		{name: "named", text: "anna a1\n\n  ben\tb2  \n", want: []Token{{"anna", "a1"}, {"ben", "b2"}}},
		{name: "empty", text: " \n", err: "is empty"},
		{name: "three words", text: "anna a1 x\n", err: "a line of 3 words"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "tokens")
			if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := ReadTokens(path)
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Fatalf("ReadTokens of %q = %v, want an error with %q", tt.text, err, tt.err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("ReadTokens of %q (-want +got):\n%s", tt.text, diff)
			}
			if _, err := ReadToken(path); (err == nil) != (len(tt.want) == 1) {
				t.Errorf("ReadToken of %q = %v, want one token or an error", tt.text, err)
			}
		})
	}
}

// TestActor looks at whom an act is put down to.
func TestActor(t *testing.T) {
	b := backend()
	var actor string
	b.Acts["POST /drains/{name}/pause"] = func(ctx context.Context, a Act) (any, error) {
		actor = a.Actor
		if got := Actor(ctx); got != a.Actor {
			t.Errorf("Actor of the context = %q, of the act %q", got, a.Actor)
		}
		return nil, nil
	}
	h := Handler(b, []Token{{"anna", "a1"}, {"ben", "b2"}}, quiet())
	for token, want := range map[string]string{"a1": "anna", "b2": "ben"} {
		q := request{method: http.MethodPost, path: "/api/v1/drains/d/pause", header: map[string]string{"Authorization": "Bearer " + token}}
		if ask(t, h, q); actor != want {
			t.Errorf("actor with token %s = %q, want %q", token, actor, want)
		}
	}
}
