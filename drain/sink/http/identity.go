package http

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	nethttp "net/http"
	"strconv"
	"strings"
	"time"

	"forebay/buffer"
	"forebay/drain"
	"forebay/policies"
)

// identity is how a sink is shown who sends: with an access token, with signatures,
// or both. The zero value shows nothing.
type identity struct {
	tokens *tokens  // nil: no token
	keys   [][]byte // of signatures; none: nothing is signed
}

func newIdentity(p policies.HTTPSink) (identity, error) {
	var i identity
	for _, s := range p.SignSecrets {
		key, err := s.WebhookKey()
		if err != nil {
			return identity{}, err
		}
		i.keys = append(i.keys, key)
	}
	if p.OAuth2 != nil {
		var err error
		if i.tokens, err = newTokens(p); err != nil {
			return identity{}, err
		}
	}
	return i, nil
}

// owns reports whether a field is for the identity alone to send: who else sent it
// would be taken for us. Gateways of the CGI kind take Webhook_Id for Webhook-Id.
func (i *identity) owns(name string) bool {
	const webhook = "webhook"
	if len(i.keys) > 0 && len(name) > len(webhook) && strings.EqualFold(name[:len(webhook)], webhook) {
		return name[len(webhook)] == '-' || name[len(webhook)] == '_'
	}
	return i.tokens != nil && strings.EqualFold(name, "Authorization")
}

// proof is what one attempt shows of an identity. The zero value shows nothing.
type proof struct {
	of     *identity
	token  string
	fields []buffer.Field
}

// replaces reports whether a field of that name that came with a message is left out.
func (p *proof) replaces(name string) bool { return p.of != nil && p.of.owns(name) }

// prove makes the proof of an attempt that begins now. It may wait for a token, and
// then for as long as fetching one takes. An error is a [*tokenError], or the context's.
func (i *identity) prove(ctx context.Context, id string, body []byte) (proof, error) {
	if i.tokens == nil && len(i.keys) == 0 {
		return proof{}, nil
	}
	p, err := i.authorize(ctx)
	if err != nil || len(i.keys) == 0 {
		return p, err
	}
	at := strconv.FormatInt(time.Now().Unix(), 10)
	p.fields = append(p.fields,
		buffer.Field{Name: "Webhook-Id", Value: id},
		buffer.Field{Name: "Webhook-Timestamp", Value: at},
		buffer.Field{Name: "Webhook-Signature", Value: signatures(i.keys, id, at, body)})
	return p, nil
}

// authorize makes the part of a proof that does not depend on the body.
func (i *identity) authorize(ctx context.Context) (proof, error) {
	p := proof{of: i}
	if i.tokens == nil {
		return p, nil
	}
	var err error
	if p.token, err = i.tokens.get(ctx); err != nil {
		return proof{}, err
	}
	p.fields = append(p.fields, buffer.Field{Name: "Authorization", Value: "Bearer " + p.token})
	return p, nil
}

// signatures signs with each key, as Standard Webhooks has it.
func signatures(keys [][]byte, id, at string, body []byte) string {
	var all strings.Builder
	var sum [sha256.Size]byte
	for n, key := range keys {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(id + "." + at + "."))
		mac.Write(body)
		if n > 0 {
			all.WriteByte(' ')
		}
		all.WriteString("v1,")
		all.WriteString(base64.StdEncoding.EncodeToString(mac.Sum(sum[:0])))
	}
	return all.String()
}

// put replaces what is the identity's in the fields of a request.
func (p *proof) put(h nethttp.Header) {
	if p.of == nil {
		return
	}
	for name := range h {
		if p.of.owns(name) {
			delete(h, name)
		}
	}
	for _, f := range p.fields {
		h[f.Name] = []string{f.Value}
	}
}

// refused takes note of an answer with 401, and reports whether it was a token that was
// refused: that says nothing of the message.
func (p *proof) refused(status int) bool {
	if status != nethttp.StatusUnauthorized || p.token == "" {
		return false
	}
	p.of.tokens.drop(p.token)
	return true
}

// prove is the identity's, bounded in time.
func (s *Sink) prove(ctx context.Context, until time.Time, id string, body []byte) (proof, error) {
	if s.identity.tokens != nil {
		bounded, cancel := context.WithDeadline(ctx, until)
		defer cancel()
		ctx = bounded
	}
	return s.identity.prove(ctx, id, body)
}

// unproven is the outcome of an attempt for which there was no proof.
func (s *Sink) unproven(err error) drain.Outcome {
	t, ok := errors.AsType[*tokenError](err)
	if !ok { // the attempt's time was over before the fetch's
		out := failure(err, s.identity.tokens.host(), 0)
		out.Error = "token: " + out.Error
		return out
	}
	return drain.Outcome{Class: drain.Retry, Error: t.Error(), RetryAfter: t.wait}
}
