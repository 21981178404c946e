package policies

import (
	"encoding/base64"
	"errors"
	"strings"
)

const webhookPrefix = "whsec_"

// The bounds of a key of Standard Webhooks, in bytes.
const (
	minWebhookKey = 24
	maxWebhookKey = 64
)

var errWebhookSecret = errors.New("not whsec_ and the base64 of 24 to 64 bytes")

// WebhookKey returns the key that a secret of Standard Webhooks stands for. An error
// says nothing of what it holds.
func (s Secret) WebhookKey() ([]byte, error) {
	text, ok := strings.CutPrefix(s.value, webhookPrefix)
	key, err := base64.StdEncoding.DecodeString(text)
	if !ok || err != nil || len(key) < minWebhookKey || len(key) > maxWebhookKey {
		return nil, errWebhookSecret
	}
	return key, nil
}

// webhookSecret reads a reference to one.
func (v value) webhookSecret() (s Secret) {
	if v.secret(&s); s == (Secret{}) {
		return s
	}
	if _, err := s.WebhookKey(); err != nil {
		v.fail("make one with: echo \"whsec_$(openssl rand -base64 32)\"", "what %s leads to is %v", quote(v.node.Value), err)
	}
	return s
}
