package admin

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
)

// actorLocal is who acts where no token says so: someone on this machine.
const actorLocal = "local"

// Token lets its holder in; the operator log has the name.
type Token struct{ Name, Secret string }

// ReadTokens reads a token file: a line is TOKEN, or NAME TOKEN. A file that
// holds none is an error: an empty token would let everyone in.
func ReadTokens(path string) ([]Token, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("admin token: %w", err)
	}
	var tokens []Token
	for line := range strings.Lines(string(raw)) {
		switch words := strings.Fields(line); len(words) {
		case 0:
		case 1:
			tokens = append(tokens, Token{Name: "token", Secret: words[0]})
		case 2:
			tokens = append(tokens, Token{Name: words[0], Secret: words[1]})
		default:
			return nil, fmt.Errorf("admin token: %s has a line of %d words; a line is TOKEN or NAME TOKEN", path, len(words))
		}
	}
	if len(tokens) == 0 {
		return nil, fmt.Errorf("admin token: %s is empty", path)
	}
	return tokens, nil
}

// ReadToken reads the file of a client, which holds one token.
func ReadToken(path string) (string, error) {
	tokens, err := ReadTokens(path)
	if err != nil {
		return "", err
	}
	if len(tokens) > 1 {
		return "", fmt.Errorf("admin token: %s holds %d; keep your own in a file by itself", path, len(tokens))
	}
	return tokens[0].Secret, nil
}

type actorKey struct{}

func withActor(r *http.Request, actor string) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), actorKey{}, actor))
}

// Actor is who sent the request of that context: the name of the token, or local.
func Actor(ctx context.Context) string {
	if name, ok := ctx.Value(actorKey{}).(string); ok {
		return name
	}
	return actorLocal
}
