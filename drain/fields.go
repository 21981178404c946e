package drain

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"

	"forebay/buffer"
)

// TimeFormat is how fields say a time: RFC 3339 with milliseconds.
const TimeFormat = "2006-01-02T15:04:05.000Z07:00"

// Ours are the fields that tell a sink of a delivery, whatever it is. They replace
// any of those names that the message has.
func (m Delivery) Ours() [4]buffer.Field {
	return [4]buffer.Field{
		{Name: "Forebay-Id", Value: m.ID},
		{Name: "Forebay-Attempt", Value: strconv.Itoa(m.Tries.Attempts + 1)},
		{Name: "Forebay-Accepted-At", Value: m.AcceptedAt.UTC().Format(TimeFormat)},
		{Name: "Forebay-Stream", Value: m.Stream},
	}
}

// Traceparent is for a message that came without one.
func (m Delivery) Traceparent() string { return Traceparent(m.ID) }

// Traceparent is derived from an id, so that every attempt is in the same trace. That
// is not sampled: it is for others to decide.
func Traceparent(id string) string { return string(AppendTraceparent(nil, id)) }

// AppendTraceparent appends that of an id.
func AppendTraceparent(dst []byte, id string) []byte {
	sum := sha256.Sum256([]byte(id))
	dst = hex.AppendEncode(append(dst, "00-"...), sum[:16])
	dst = hex.AppendEncode(append(dst, '-'), sum[16:24])
	return append(dst, "-00"...)
}

// OfConnection reports whether a field, its name in canonical form, speaks of a
// connection or of framing rather than of the message. Such fields are not stored;
// this is for messages that came another way.
func OfConnection(name string) bool {
	switch name {
	case "Connection", "Content-Length", "Expect", "Host", "Keep-Alive", "Proxy-Authenticate",
		"Proxy-Authorization", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade":
		return true
	default:
		return false
	}
}
