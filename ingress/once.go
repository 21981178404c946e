package ingress

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"strings"
	"time"

	"forebay/buffer"
	"forebay/policies"
)

const (
	maxIdempotencyKey     = 255 // bytes, without its quotes
	idempotencyKeyField   = "Idempotency-Key"
	batchIDField          = "Batch-Id"
	defaultIdempotencyTTL = 24 * time.Hour
)

// repeatKey is what tells that a request is sent again.
type repeatKey struct {
	field string // the header field it came in
	value string // empty: nothing tells
}

// repeatKeyOf finds the key of a request: that of the route's field or, for a
// body that is split, Batch-Id where there is none.
func repeatKeyOf(header http.Header, route *policies.Route) (repeatKey, error) {
	key, err := readRepeatKey(header, cmp.Or(route.Idempotency.Header, idempotencyKeyField))
	if err != nil || key.value != "" {
		return key, err
	}
	if route.Split != policies.SplitNone {
		id, err := readRepeatKey(header, batchIDField)
		if err != nil || id.value != "" {
			return id, err
		}
	}
	if route.Idempotency.Required {
		return key, problemIdempotencyKeyMissing(key.field)
	}
	return key, nil
}

func readRepeatKey(header http.Header, field string) (repeatKey, error) {
	value, fault := parseIdempotencyKey(header[field])
	if fault != "" {
		return repeatKey{field: field}, problemBadRequest(field + " " + fault)
	}
	return repeatKey{field, value}, nil
}

// parseIdempotencyKey takes a key as the standard has it, a quoted string, and
// bare as most clients send it; both spellings are the same key. fault says
// why it is refused; no field at all is no key.
func parseIdempotencyKey(values []string) (key, fault string) {
	if len(values) == 0 {
		return "", ""
	}
	if len(values) > 1 {
		return "", "is given more than once"
	}
	key = values[0]
	if strings.HasPrefix(key, `"`) {
		var ok bool
		if key, ok = unquote(key[1:]); !ok {
			return "", "is not a well-formed string"
		}
	}
	switch {
	case key == "":
		return "", "is empty"
	case len(key) > maxIdempotencyKey:
		return "", "is over 255 bytes"
	}
	return key, ""
}

// unquote reads a string of RFC 9651 from behind its opening quote. It is
// easy on bytes beyond ASCII: bare keys may hold them, too.
func unquote(s string) (string, bool) {
	if i := strings.IndexAny(s, `"\`); i >= 0 && s[i] == '"' {
		return s[:i], i == len(s)-1
	}
	var plain strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return plain.String(), i == len(s)-1
		case c == '\\' && (i+1 == len(s) || s[i+1] != '"' && s[i+1] != '\\'):
			return "", false
		case c == '\\':
			i++
		}
		plain.WriteByte(s[i])
	}
	return "", false
}

// onceKey hashes the key in its scope, principal and route, and what is asked: method,
// target and body. The hashes are stored: another way to make them would
// forget every key. It works in s.out.
func onceKey(s *scratch, key repeatKey, route *policies.Route, principal string, m *buffer.Message) buffer.OnceKey {
	once := buffer.OnceKey{TTL: cmp.Or(route.Idempotency.TTL, defaultIdempotencyTTL)}
	s.out = appendScope(s.out[:0], route, principal, key)
	once.Key = scopedKey(s.out)

	sum := sha256.Sum256(m.Body)
	s.out = appendTerminated(s.out[:0], m.Method, m.Target)
	s.out = append(s.out, sum[:]...)
	sum = sha256.Sum256(s.out)
	copy(once.Body[:], sum[:])
	s.out = s.out[:0]
	return once
}

// appendScope appends a key with whose it is; nobody's are those of the route.
func appendScope(b []byte, route *policies.Route, principal string, key repeatKey) []byte {
	b = appendTerminated(b, route.Name, key.field, key.value)
	if principal != "" {
		b = appendTerminated(b, principal)
	}
	return b
}

func scopedKey(scoped []byte) [16]byte {
	sum := sha256.Sum256(scoped)
	return [16]byte(sum[:16])
}

// OnceKeys returns what the buffer may have a request recorded under that came
// through a route with that value in its idempotency field, or as its Batch-Id,
// from whoever has a key for the route. The value is as sent, bare or quoted. An
// error says why no request can have it.
func OnceKeys(route *policies.Route, value string) ([][16]byte, error) {
	value, fault := parseIdempotencyKey([]string{value})
	if fault != "" {
		return nil, errors.New("the idempotency key " + fault)
	}
	fields := []string{cmp.Or(route.Idempotency.Header, idempotencyKeyField)}
	if route.Split != policies.SplitNone {
		fields = append(fields, batchIDField)
	}
	var keys [][16]byte
	for _, principal := range append(principals(route), "") { // "": from before it had auth
		for _, field := range fields {
			keys = append(keys, scopedKey(appendScope(nil, route, principal, repeatKey{field, value})))
		}
	}
	return keys, nil
}

// appendTerminated ends each string with a byte that no header field, method
// or target holds.
func appendTerminated(b []byte, all ...string) []byte {
	for _, s := range all {
		b = append(append(b, s...), 0)
	}
	return b
}

// store makes msgs durable; once only where a key came with them.
func (h *Handler) store(x *exchange, route *policies.Route, in intake) (a buffer.Accepted, replayed bool, err error) {
	// The commit ends the wait, in milliseconds, and the buffer does when it stalls:
	// whether the caller has left by then changes nothing, and need not be watched.
	ctx, now, stream := context.WithoutCancel(x.r.Context()), time.Now(), route.Stream
	if in.once.TTL == 0 {
		a, err = h.cfg.Buffer.Append(ctx, stream, now, in.msgs)
		return a, false, err
	}
	a, replayed, err = h.cfg.Buffer.AppendOnce(ctx, stream, now, in.msgs, in.once)
	h.metrics.lookups.count(replayed, err)
	return a, replayed, err
}
