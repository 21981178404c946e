package http

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"io"
	nethttp "net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"forebay/drain"
	"forebay/policies"
)

// maxIDs is how many ids a batch names: header fields of more than 8 KiB are refused by
// many servers.
const maxIDs = policies.MaxNamedIDs

// batchSink delivers messages together, as one JSON document each.
type batchSink struct {
	*Sink
	policy policies.Batch
}

// Batch is what [drain.Sink] speaks of.
func (s batchSink) Batch() drain.Batch {
	return drain.Batch{Messages: s.policy.MaxMessages, Bytes: s.policy.MaxBytes, Wait: s.policy.MaxWait}
}

// Deliver implements drain.Sink: one POST for all messages, and more where that is
// refused for a reason that may lie in one of them: then its halves go again, down to
// the messages that are to blame. It blocks for at most the sink's total time-out per
// request. What is not JSON cannot be part of a batch, and is buried.
func (s batchSink) Deliver(ctx context.Context, msgs []drain.Delivery) []drain.Outcome {
	outcomes := make([]drain.Outcome, len(msgs))
	fit := make([]drain.Delivery, 0, len(msgs))
	places := make([]int, 0, len(msgs))
	for i, m := range msgs {
		if !json.Valid(m.Body) {
			outcomes[i] = drain.Outcome{Class: drain.Permanent, Error: "not JSON, which a batch consists of"}
			continue
		}
		fit, places = append(fit, m), append(places, i)
	}
	for i, o := range s.send(ctx, fit) {
		outcomes[places[i]] = o
	}
	return outcomes
}

func (s batchSink) send(ctx context.Context, msgs []drain.Delivery) []drain.Outcome {
	if len(msgs) == 0 {
		return nil
	}
	outcomes, halve := s.attempt(ctx, msgs)
	if !halve {
		return outcomes
	}
	half := len(msgs) / 2
	return append(s.again(ctx, msgs[:half]), s.again(ctx, msgs[half:])...)
}

func (s batchSink) again(ctx context.Context, msgs []drain.Delivery) []drain.Outcome {
	ctx, err := drain.Again(ctx, msgs)
	if err != nil {
		return all(msgs, drain.Outcome{Class: drain.Retry, Error: "refused as part of a batch, and there was no time to try it alone"})
	}
	return s.send(ctx, msgs)
}

// attempt makes one request, and reports whether its halves are to go again.
func (s batchSink) attempt(ctx context.Context, msgs []drain.Delivery) (outcomes []drain.Outcome, halve bool) {
	until := time.Now().Add(s.timeout)
	body, key := s.join(msgs), batchKey(msgs)
	p, err := s.prove(ctx, until, key, body)
	if err != nil {
		return all(msgs, s.unproven(err)), false
	}
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	req, err := nethttp.NewRequestWithContext(ctx, nethttp.MethodPost, "http://sink.invalid/", bytes.NewReader(body))
	if err != nil {
		return all(msgs, drain.Outcome{Class: drain.Retry, Error: "unusable request: " + clean(err)}), false
	}
	req.Header = s.fields(msgs, key)
	p.put(req.Header)
	a, failed := s.exchange(ctx, req, p)
	if a == nil {
		return all(msgs, failed), false
	}
	defer a.Close()
	answer, err := io.ReadAll(io.LimitReader(a.Body, maxAnswerBody+maxItem*int64(len(msgs))))
	if err != nil {
		return all(msgs, a.CutOff(err)), false
	}
	out := s.outcome(a)
	out.CancelKeys, out.Advice = cancelKeys(a.Header), advice(a.Response)
	if out.Class == drain.Success {
		return s.items(msgs, out, answer, a.Host()), false
	}
	return all(msgs, out), out.Class == drain.Permanent && len(msgs) > 1 && ofAMessage(out.Status)
}

// ofAMessage reports whether a status says something of what was sent, rather than of
// where it was sent to.
func ofAMessage(status int) bool {
	switch status {
	case nethttp.StatusBadRequest, nethttp.StatusConflict, nethttp.StatusRequestEntityTooLarge, nethttp.StatusUnprocessableEntity:
		return true
	default:
		return false
	}
}

func all(msgs []drain.Delivery, o drain.Outcome) []drain.Outcome {
	return slices.Repeat([]drain.Outcome{o}, len(msgs))
}

// join is the body of a batch.
func (s batchSink) join(msgs []drain.Delivery) []byte {
	size := 2
	for _, m := range msgs {
		size += len(m.Body) + 1
	}
	b := bytes.NewBuffer(make([]byte, 0, size))
	if s.policy.Format == policies.BatchNDJSON {
		for _, m := range msgs {
			line(b, m.Body)
			b.WriteByte('\n')
		}
		return b.Bytes()
	}
	b.WriteByte('[')
	for i, m := range msgs {
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(m.Body)
	}
	b.WriteByte(']')
	return b.Bytes()
}

// line writes a JSON document without line breaks.
func line(b *bytes.Buffer, document []byte) {
	document = bytes.TrimSpace(document)
	if bytes.ContainsAny(document, "\r\n") && json.Compact(b, document) == nil {
		return
	}
	b.Write(document)
}

// idsOf are the ids of messages, with commas between.
func idsOf(msgs []drain.Delivery) string {
	ids := make([]string, len(msgs))
	for i, m := range msgs {
		ids[i] = m.ID
	}
	return strings.Join(ids, ",")
}

// batchKey is the same whenever the same messages go together.
func batchKey(msgs []drain.Delivery) string {
	sum := sha256.Sum256([]byte(idsOf(msgs)))
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:16]))
}

// fields are those of a batch with that key.
func (s batchSink) fields(msgs []drain.Delivery, key string) nethttp.Header {
	attempt := 0
	for _, m := range msgs {
		attempt = max(attempt, m.Tries.Attempts+1)
	}
	kind := "application/json"
	if s.policy.Format == policies.BatchNDJSON {
		kind = "application/x-ndjson"
	}
	h := nethttp.Header{}
	h.Set("Content-Type", kind)
	h.Set("Forebay-Messages", strconv.Itoa(len(msgs)))
	if len(msgs) <= maxIDs {
		h.Set("Forebay-Ids", idsOf(msgs))
	}
	h.Set("Forebay-Attempt", strconv.Itoa(attempt))
	h.Set("Forebay-Accepted-At", msgs[0].AcceptedAt.UTC().Format(drain.TimeFormat))
	h.Set("Forebay-Stream", msgs[0].Stream)
	h.Set("Traceparent", drain.Traceparent(key))
	h.Set("User-Agent", "forebay")
	h.Set("Idempotency-Key", key)
	hideFromTransport(h, "Idempotency-Key")
	return h
}
