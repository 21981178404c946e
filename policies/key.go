package policies

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
)

// maxKeyBytes bounds an ordering key. A longer one is told by its hash, so that
// its messages still keep their order.
const maxKeyBytes = 256

// Key says how a message's key is read from its header and body. The zero Key
// finds none. It is immutable.
type Key struct{ parts []keyPart }

// RecordKey is asked for in the place of a header field where the policy says kafka:key.
// Records of Kafka have it alone: no field can be called so.
const RecordKey = ":kafka-key"

// keyPart is a header field, or a place in a JSON body.
type keyPart struct {
	header  string
	pointer pointer
}

// Extract reads the key of a message. There is none where a part of it is
// missing, null or empty, where it is an object or a list, or where the body that
// it points into is not JSON. A number is its literal text; of members with the
// same name the last counts. A key of several parts has them with / between,
// where ~1 stands for a / in a part and ~0 for a ~; one over 256 bytes is
// sha256- and its hash. The header is asked for names in canonical form.
func (k Key) Extract(header func(name string) []string, body []byte) (key string, ok bool) {
	for i, p := range k.parts {
		part := p.extract(header, body)
		if part == "" {
			return "", false
		}
		if len(k.parts) == 1 {
			return StoredKey(part), true
		}
		if i > 0 {
			key += "/"
		}
		key += escapePart(part)
	}
	return StoredKey(key), key != ""
}

// escapePart keeps the / of a part apart from those between parts.
func escapePart(part string) string {
	if strings.ContainsAny(part, "~/") {
		part = strings.NewReplacer("~", "~0", "/", "~1").Replace(part)
	}
	return part
}

// StoredKey is how the buffer knows an ordering or cancel key of which somebody
// speaks: a long one is named by its hash, which keeps its messages together too.
func StoredKey(key string) string {
	if len(key) <= maxKeyBytes {
		return key
	}
	sum := sha256.Sum256([]byte(key))
	return "sha256-" + hex.EncodeToString(sum[:])
}

func (p keyPart) extract(header func(name string) []string, body []byte) string {
	switch p.header {
	case "":
		return p.pointer.find(body)
	case RecordKey:
		return strings.Join(header(RecordKey), "") // one, as it is
	default:
		return strings.TrimSpace(strings.Join(header(p.header), ", "))
	}
}

// String is the key as a policy writes it: json:/customer_id, header:X-Shop.
func (k Key) String() string {
	parts := make([]string, len(k.parts))
	for i, p := range k.parts {
		parts[i] = p.String()
	}
	return strings.Join(parts, ", ")
}

func (p keyPart) String() string {
	switch p.header {
	case "":
		return "json:" + p.pointer.String()
	case RecordKey:
		return "kafka:key"
	default:
		return "header:" + p.header
	}
}

// OfRecords reports whether a part of the key is the key of a Kafka record.
func (k Key) OfRecords() bool {
	return slices.ContainsFunc(k.parts, func(p keyPart) bool { return p.header == RecordKey })
}

// IsZero reports whether there is nothing to extract.
func (k Key) IsZero() bool { return len(k.parts) == 0 }

// Equal reports whether two keys are read from the same places.
func (k Key) Equal(other Key) bool { return slices.EqualFunc(k.parts, other.parts, keyPart.equal) }

func (p keyPart) equal(other keyPart) bool {
	return p.header == other.header && slices.Equal(p.pointer, other.pointer)
}
