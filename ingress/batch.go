package ingress

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"forebay/buffer"
	"forebay/policies"
)

const (
	// maxBatchMemory bounds what one batch takes besides its body, in bytes. It
	// is what the buffer takes at once.
	maxBatchMemory = 64 << 20
	// About what Go makes of them on 64 bits.
	messageBytes = 208
	stringBytes  = 16

	firstMessages = 64
)

// readBatch splits a body into messages, all or none.
func (h *Handler) readBatch(x *exchange, s *scratch, set *policies.Set, route *policies.Route, target string, key repeatKey) (intake, error) {
	stream := set.Stream(route.Stream)
	plain, err := h.readWhole(x, s, route)
	if err != nil {
		return intake{}, err
	}
	msgs, err := h.cut(s, newParts(route.Split, s.body), messageLimit(stream))
	if err != nil {
		return intake{}, undeclared(err, plain, route.Split, s.body)
	}
	s.fields = appendFields(s.fields, x.r, x.id, h.trusted.origin(x.r))
	s.fields = withoutKeys(s.fields, set)
	h.address(s, msgs, x, target, route, key)
	if err := h.readAllKeys(s, msgs, x, stream); err != nil {
		return intake{}, err
	}
	in := intake{msgs: msgs}
	if key.value != "" {
		in.once = onceKey(s, key, route, x.principal, &buffer.Message{Method: x.r.Method, Target: target, Body: s.body})
	}
	return in, nil
}

// readWhole reads a body that is to be split into s.body, and inflates it; plain says
// that it was sent as it is.
func (h *Handler) readWhole(x *exchange, s *scratch, route *policies.Route) (plain bool, err error) {
	coding, err := contentCoding(x.r.Header)
	if err != nil {
		return false, err
	}
	if err := h.readBody(s, x.r, bodyLimit(route)); err != nil || coding == "" {
		return true, err
	}
	return false, h.inflate(x.r.Context(), s, coding, cmp.Or(route.MaxInflated, defaultMaxInflated))
}

// undeclared says of a body that cannot be split what is likely to be wrong with it: it
// is compressed, and its header does not say so. Lines may be any bytes.
func undeclared(err error, plain bool, split policies.Split, body []byte) error {
	if !plain || split == policies.SplitLines {
		return err
	}
	for coding, magic := range map[string]string{"gzip": "\x1f\x8b", "zstd": "\x28\xb5\x2f\xfd"} {
		if bytes.HasPrefix(body, []byte(magic)) {
			return problemBadRequest("the body is " + coding + ", and there is no Content-Encoding: " + coding)
		}
	}
	return err
}

// readAllKeys reads the keys of every message. Combinations of a few values make
// many cancel keys, so that their memory counts, too.
func (h *Handler) readAllKeys(s *scratch, msgs []buffer.Message, x *exchange, stream *policies.Stream) error {
	var more int64
	for i := range msgs {
		x.readKeys(stream, &msgs[i])
		for _, key := range msgs[i].CancelKeys {
			more += int64(stringBytes + len(key))
		}
		if more > maxBatchMemory {
			return problemBatchTooLarge()
		}
	}
	return h.hold(s, more)
}

// cut makes messages with nothing but a body, of at most limit bytes each, and its place.
func (h *Handler) cut(s *scratch, p parts, limit int64) ([]buffer.Message, error) {
	room, known := p.most()
	if !known {
		room = firstMessages
	}
	var msgs []buffer.Message
	for {
		part, fault := p.next()
		if fault == "" && int64(len(part)) > limit {
			fault = fmt.Sprintf("is over %d bytes", limit)
		}
		switch {
		case fault != "":
			return nil, problemBadLine(p.unit(), p.n, fault)
		case part == nil && len(msgs) == 0:
			return nil, problemBadRequest("the body holds no messages")
		case part == nil:
			return msgs, nil
		}
		if len(msgs) == cap(msgs) {
			var err error
			if msgs, err = h.moreMessages(s, msgs, max(room, 2*len(msgs))); err != nil {
				return nil, err
			}
		}
		msgs = append(msgs, buffer.Message{Body: part, Index: len(msgs)})
	}
}

// moreMessages makes room for up to n messages.
func (h *Handler) moreMessages(s *scratch, msgs []buffer.Message, n int) ([]buffer.Message, error) {
	n = min(n, maxBatchMemory/messageBytes)
	if n <= len(msgs) {
		return nil, problemBatchTooLarge()
	}
	if err := h.hold(s, int64(n-cap(msgs))*messageBytes); err != nil {
		return nil, err
	}
	return append(make([]buffer.Message, 0, n), msgs...), nil
}

// address gives every message the method, the target and the fields of its
// request, one slice for all, and the name of the batch.
func (h *Handler) address(s *scratch, msgs []buffer.Message, x *exchange, target string, route *policies.Route, key repeatKey) {
	s.fields = slices.DeleteFunc(s.fields, func(f buffer.Field) bool {
		return ofBodyAlone(f.Name) || f.Name == cmp.Or(route.Idempotency.Header, idempotencyKeyField)
	})
	s.fields = append(s.fields, buffer.Field{Name: "Content-Type", Value: partType(route.Split)})
	slices.SortStableFunc(s.fields, func(a, b buffer.Field) int { return strings.Compare(a.Name, b.Name) })
	batch, owner := batchName(cmp.Or(key.value, x.id)), buffer.OwnerOf(x.principal)
	for i := range msgs {
		m := &msgs[i]
		m.Method, m.Target, m.Header = x.r.Method, target, s.fields
		m.Batch, m.Owner = batch, owner
		m.KeepAnswer = int(route.StoreResult)
	}
}

// ofBodyAlone says which fields are true of a body as a whole, or of the
// request, and of none of its parts.
func ofBodyAlone(name string) bool {
	switch name {
	case "Content-Type", "Content-Encoding", "Content-Digest", "Repr-Digest", "Digest", "Content-Md5", "Content-Range", idempotencyKeyField:
		return true
	}
	return false
}

func partType(split policies.Split) string {
	if split == policies.SplitLines {
		return "text/plain"
	}
	return "application/json"
}

// batchName is bare where it can be, else a quoted string.
func batchName(s string) string {
	for i := range len(s) {
		switch c := s[i]; {
		case '0' <= c && c <= '9', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', strings.IndexByte("!#$%&'*+-.^_`|~:/", c) >= 0:
		default:
			return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
		}
	}
	return s
}

// acknowledgeBatch answers for messages that are durable.
func (h *Handler) acknowledgeBatch(x *exchange, route *policies.Route, a buffer.Accepted, s *scratch, replayed bool) {
	x.partIf(h.receipts.waits.stopped())
	id := func(i int) string {
		return h.cfg.Buffer.ID(buffer.Ref{Stream: route.Stream, Offset: a.First + uint64(i)})
	}
	b := strconv.AppendInt(append(s.out, `{"accepted":`...), int64(a.Count), 10)
	b = appendString(append(b, `,"first_id":`...), id(0))
	b = appendString(append(b, `,"last_id":`...), id(a.Count-1))
	b = strconv.AppendBool(append(b, `,"duplicate":`...), replayed)
	x.set("Vary", "Prefer")
	x.set("Content-Type", "application/json")
	if !prefersRepresentation(x.r.Header["Prefer"]) {
		s.out = append(b, "}\n"...)
		x.write(http.StatusAccepted, s.out)
		return
	}
	x.set("Preference-Applied", "return=representation")
	x.quota.tell(x, http.StatusAccepted)
	x.w.WriteHeader(http.StatusAccepted)
	b = append(b, `,"ids":[`...)
	for i := range a.Count {
		if i > 0 {
			b = append(b, ',')
		}
		if b = appendString(b, id(i)); len(b) >= firstBodyBytes {
			if _, err := x.w.Write(b); err != nil {
				return // the caller is gone
			}
			b = b[:0]
		}
	}
	s.out = append(b, "]}\n"...)
	_, _ = x.w.Write(s.out)
}

// batchFault says the same of a batch that the buffer says of a message.
func batchFault(err error) error {
	if errors.Is(err, buffer.ErrTooLarge) {
		return problemBatchTooLarge()
	}
	return err
}
