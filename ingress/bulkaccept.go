package ingress

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"forebay/buffer"
	"forebay/policies"
)

// bulkHello is what clients look for before they send anything.
const bulkHello = `{"name":"forebay","cluster_name":"forebay","cluster_uuid":"forebay","version":{"number":"7.17.28",` +
	`"build_flavor":"default","build_type":"forebay","build_hash":"forebay","build_date":"2025-02-20T09:05:31.349013687Z",` +
	`"build_snapshot":false,"lucene_version":"8.11.3","minimum_wire_compatibility_version":"6.8.0",` +
	`"minimum_index_compatibility_version":"6.0.0-beta1"},"tagline":"You Know, for Search"}` + "\n"

// helloBulk tells a client what it talks to. That is no new work: no limit is asked.
func (x *exchange) helloBulk() outcome {
	x.set("Content-Type", "application/json")
	x.write(http.StatusOK, []byte(bulkHello))
	return outcomePassed()
}

// bulk answers other requests of a route with split: bulk.
func (h *Handler) bulk(x *exchange, set *policies.Set, route *policies.Route, target string) outcome {
	if asks, index := route.Bulk(x.r.Method, x.r.URL.Path); asks == policies.BulkItems {
		return h.acceptBulk(x, set, route, target, index)
	}
	p := problemNoRoute()
	p.detail = "this route takes POST and PUT of _bulk and INDEX/_bulk, and GET of its root"
	x.fail(p)
	return p.outcome()
}

// acceptBulk makes what a bulk request creates durable, and answers each of its actions.
func (h *Handler) acceptBulk(x *exchange, set *policies.Set, route *policies.Route, target, index string) outcome {
	s, _ := h.scratch.Get().(*scratch)
	var items []bulkItem
	var in intake
	err := h.intakeOpen(route)
	if err == nil {
		items, in, err = h.readBulk(x, s, set, route, target, index)
	}
	var accepted buffer.Accepted
	var replayed bool
	if err == nil && len(in.msgs) > 0 {
		if err = h.feasible(x, route, in); err == nil {
			accepted, replayed, err = h.store(x, route, in)
		}
		if replayed && accepted.Count != len(in.msgs) { // another policy held then
			err = buffer.ErrMismatch
		}
	}
	defer h.recycle(s)
	if err != nil {
		h.giveBack(s)
		return h.refuse(x, set, route, batchFault(err))
	}
	s.body = nil // what is left is the items, which the answer is made of
	h.letGo(s, s.held-counted(int64(cap(items))*bulkItemBytes))
	defer h.giveBack(s)
	h.answerBulk(x, route, items, accepted, s, replayed)
	switch {
	case len(in.msgs) == 0:
		return outcome{decisionInvalid, http.StatusOK}
	case replayed:
		return outcome{decisionReplayed, http.StatusOK}
	}
	return outcome{decisionBuffered, http.StatusOK}
}

// readBulk makes items of a request, and messages of those that can be stored.
func (h *Handler) readBulk(x *exchange, s *scratch, set *policies.Set, route *policies.Route, target, index string) ([]bulkItem, intake, error) {
	key, err := repeatKeyOf(x.r.Header, route)
	if err != nil {
		return nil, intake{}, err
	}
	times, err := x.times(set, route)
	if err != nil {
		return nil, intake{}, err
	}
	stream := set.Stream(route.Stream)
	plain, err := h.readWhole(x, s, route)
	if err != nil {
		return nil, intake{}, err
	}
	items, msgs, err := h.cutBulk(s, index, messageLimit(stream))
	if err != nil {
		return nil, intake{}, undeclared(err, plain, route.Split, s.body)
	}
	s.fields = appendFields(s.fields, x.r, x.id, h.trusted.origin(x.r))
	s.fields = withoutKeys(s.fields, set)
	h.address(s, msgs, x, target, route, key)
	if err := h.label(s, msgs, items); err != nil {
		return nil, intake{}, err
	}
	if err := h.readAllKeys(s, msgs, x, stream); err != nil {
		return nil, intake{}, err
	}
	in := intake{msgs: msgs}
	for i := range msgs {
		times.put(&msgs[i])
	}
	if key.value == "" {
		key = bulkKey(items, s.body)
	}
	if key.value != "" {
		in.once = onceKey(s, key, route, x.principal, &buffer.Message{Method: x.r.Method, Target: target, Body: s.body})
	}
	return items, in, nil
}

// bulkKey is the body itself where all that it asks for is to create documents whose ids
// it names: to create them twice is never meant, and agents that heard no answer send the
// same body again.
func bulkKey(items []bulkItem, body []byte) repeatKey {
	if slices.ContainsFunc(items, func(i bulkItem) bool { return i.op != "create" || i.id == "" }) {
		return repeatKey{}
	}
	sum := sha256.Sum256(body)
	return repeatKey{"_bulk", hex.EncodeToString(sum[:])}
}

// label adds index and id to the header of each message. Those of one index and without
// an id go on sharing one.
func (h *Handler) label(s *scratch, msgs []buffer.Message, items []bulkItem) error {
	var more int64
	of, index := s.fields, ""
	for i := range msgs {
		item := &items[msgs[i].Index]
		if item.index != index {
			of, index = withField(s.fields, policies.BulkIndex, item.index), item.index
			more += int64(len(of)) * 2 * stringBytes
		}
		msgs[i].Header = withField(of, policies.BulkID, item.id)
		if item.id != "" {
			more += int64(len(of)+1) * 2 * stringBytes
		}
		if more > maxBatchMemory {
			return problemBatchTooLarge()
		}
	}
	return h.hold(s, more)
}

// withField is a copy of fields with one more in its place by name; without a value it
// is fields.
func withField(fields []buffer.Field, name, value string) []buffer.Field {
	if value == "" {
		return fields
	}
	i, _ := slices.BinarySearchFunc(fields, name, func(f buffer.Field, name string) int { return strings.Compare(f.Name, name) })
	return slices.Insert(slices.Clip(fields), i, buffer.Field{Name: name, Value: value})
}

// answerBulk tells what became of each item, in their order. Those that are stored are
// durable.
func (h *Handler) answerBulk(x *exchange, route *policies.Route, items []bulkItem, a buffer.Accepted, s *scratch, replayed bool) {
	x.partIf(h.receipts.waits.stopped())
	if replayed {
		x.set("Idempotent-Replayed", "true")
	}
	x.set("Content-Type", "application/json")
	x.quota.tell(x, http.StatusOK)
	x.w.WriteHeader(http.StatusOK)
	failed := slices.ContainsFunc(items, func(i bulkItem) bool { return i.fault != nil })
	b := strconv.AppendInt(append(s.out[:0], `{"took":`...), time.Since(x.start).Milliseconds(), 10)
	b = strconv.AppendBool(append(b, `,"errors":`...), failed)
	b = append(b, `,"items":[`...)
	offset := a.First
	for i := range items {
		if i > 0 {
			b = append(b, ',')
		}
		item := &items[i]
		if item.fault == nil && item.id == "" {
			item.id = h.cfg.Buffer.ID(buffer.Ref{Stream: route.Stream, Offset: offset})
		}
		if item.fault == nil {
			offset++
		}
		if b = appendBulkItem(b, item, route.Stream); len(b) >= firstBodyBytes {
			if _, err := x.w.Write(b); err != nil {
				return // the caller is gone
			}
			b = b[:0]
		}
	}
	s.out = append(b, "]}\n"...)
	_, _ = x.w.Write(s.out)
}

// appendBulkItem names the stream where an action names no index.
func appendBulkItem(b []byte, item *bulkItem, stream string) []byte {
	b = appendString(append(b, '{'), item.op)
	index := item.index
	if index == "" {
		index = stream
	}
	b = appendString(append(b, `:{"_index":`...), index)
	if b = append(b, `,"_id":`...); item.id == "" {
		b = append(b, `null`...)
	} else {
		b = appendString(b, item.id)
	}
	if item.fault == nil {
		return append(b, `,"_version":1,"result":"created","status":201}}`...)
	}
	b = appendString(append(b, `,"status":400,"error":{"type":`...), item.fault.kind)
	b = appendString(append(b, `,"reason":`...), item.fault.reason)
	return append(b, `}}}`...)
}
