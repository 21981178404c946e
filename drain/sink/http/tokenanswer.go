package http

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	nethttp "net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxToken bounds a token in bytes: a header field has to hold it.
const maxToken = 16 << 10

// grantErrors are what RFC 6749, section 5.2, has servers say.
var grantErrors = []string{
	"invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type", "invalid_scope",
}

// ask makes one request for a token, by the client credentials grant, and returns it with
// its life. refused says that it may be where the secret stood that was refused.
func (t *tokens) ask(ctx context.Context, inBody bool) (value string, life time.Duration, refused bool, failed *tokenError) {
	fail := func(format string, args ...any) (string, time.Duration, bool, *tokenError) {
		return "", 0, refused, &tokenError{reason: fmt.Sprintf(format, args...), host: t.host()}
	}
	req, err := t.request(ctx, inBody)
	if err != nil {
		return fail("unusable request")
	}
	resp, err := t.via.RoundTrip(req)
	if err != nil {
		return fail("%s", category(err))
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBody+1))
	if err != nil {
		return fail("%s", category(err))
	}
	var said grant
	err = json.Unmarshal(body, &said)
	refused = resp.StatusCode == nethttp.StatusBadRequest || resp.StatusCode == nethttp.StatusUnauthorized
	switch {
	case slices.Contains(grantErrors, said.Error):
		return fail("status %d, %s", resp.StatusCode, said.Error)
	case resp.StatusCode != nethttp.StatusOK:
		return fail("status %d", resp.StatusCode)
	case len(body) > maxAnswerBody:
		return fail("the answer is over 64 KiB")
	case err != nil:
		return fail("the answer is not the JSON of a token")
	}
	life, reason := said.check()
	if reason != "" {
		return fail("%s", reason)
	}
	return said.Token, life, false, nil
}

func (t *tokens) request(ctx context.Context, inBody bool) (*nethttp.Request, error) {
	form := url.Values{"grant_type": {"client_credentials"}}
	id, secret := t.policy.ClientID, t.policy.ClientSecret.Reveal()
	if inBody {
		form.Set("client_id", id)
		form.Set("client_secret", secret)
	}
	req, err := nethttp.NewRequestWithContext(ctx, nethttp.MethodPost, t.policy.TokenURL.String(), strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	if !inBody {
		req.SetBasicAuth(url.QueryEscape(id), url.QueryEscape(secret)) // as RFC 6749, section 2.3.1, has it
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "forebay")
	return req, nil
}

// grant is what a server answers.
type grant struct {
	Token   string          `json:"access_token"`
	Type    string          `json:"token_type"`
	Expires json.RawMessage `json:"expires_in"`
	Error   string          `json:"error"`
}

// check returns how long the token holds, or why it cannot be used.
func (g *grant) check() (life time.Duration, reason string) {
	switch {
	case g.Error != "":
		return 0, "the answer is an error"
	case g.Token == "":
		return 0, "the answer has no access_token"
	case len(g.Token) > maxToken:
		return 0, "the access_token is over 16 KiB"
	case strings.ContainsFunc(g.Token, func(r rune) bool { return r <= ' ' || r > '~' }):
		return 0, "the access_token cannot stand in a header field"
	case g.Type != "" && !strings.EqualFold(g.Type, "Bearer"):
		return 0, "the token_type is not Bearer"
	}
	return g.life()
}

// life reads expires_in, which some servers write as a string, and some as 0 where they
// mean that they do not know.
func (g *grant) life() (time.Duration, string) {
	text := strings.Trim(string(g.Expires), `"`)
	if text == "" || text == "null" {
		return untoldLife, ""
	}
	seconds, err := strconv.ParseFloat(text, 64)
	switch {
	case seconds == 0 && err == nil:
		return untoldLife, ""
	case seconds >= maxLife.Seconds(): // out of range too
		return maxLife, ""
	case err != nil || !(seconds >= 1):
		return 0, "expires_in is not a number of seconds to come"
	}
	return time.Duration(seconds * float64(time.Second)), ""
}
