package http

import (
	"bytes"
	"encoding/json"
	"fmt"
	nethttp "net/http"
	"slices"
	"strings"
	"unicode"

	"forebay/buffer"
	"forebay/drain"
)

const (
	// maxItem is the bytes of an answer that are read for each message.
	maxItem = 1 << 10
	// maxItemError bounds what is kept of a message's error.
	maxItemError = 256
)

// itemResult is what an answer says of one message.
type itemResult struct {
	Status int             `json:"status"`
	Error  json.RawMessage `json:"error"`
}

// items are the outcomes of a batch that was answered with success: of all alike, or
// of each as the answer says, in the order of the batch: [{"status": 201}, {"status":
// 422, "error": "no such shop"}], or such an array as the member items of an object.
func (s batchSink) items(msgs []drain.Delivery, out drain.Outcome, answer []byte, t *target) []drain.Outcome {
	each, ok := itemsOf(answer)
	switch {
	case ok && len(each) == len(msgs):
	case ok || out.Status == nethttp.StatusMultiStatus:
		out.Class, out.Status = drain.Retry, 0
		out.Error = fmt.Sprintf("malformed answer: %s says what became of %d messages of %d", t.url.Host, len(each), len(msgs))
		return all(msgs, out)
	default:
		return all(msgs, out)
	}
	outcomes := make([]drain.Outcome, len(msgs))
	for i, it := range each {
		outcomes[i] = s.item(it, t)
		if msgs[i].KeepAnswer > 0 {
			outcomes[i].Answer = &buffer.Answer{Body: it.Error[:min(len(it.Error), msgs[i].KeepAnswer)], Truncated: len(it.Error) > msgs[i].KeepAnswer}
		}
	}
	outcomes[0].CancelKeys, outcomes[0].Advice = out.CancelKeys, out.Advice
	return outcomes
}

func (s batchSink) item(it itemResult, t *target) drain.Outcome {
	if it.Status < 300 {
		return drain.Outcome{Class: drain.Success, Status: it.Status}
	}
	o := drain.Outcome{Class: drain.Retry, Status: it.Status, Error: fmt.Sprintf("status %d from %s", it.Status, t.url.Host)}
	if reason := readable(it.Error); reason != "" {
		o.Error += ": " + reason
	}
	if slices.Contains(s.Sink.policy.Permanent, it.Status) {
		o.Class = drain.Permanent
	}
	return o
}

// itemsOf reads what an answer says of each message; false: it says nothing of them.
func itemsOf(answer []byte) ([]itemResult, bool) {
	var list []itemResult
	if answer = bytes.TrimSpace(answer); bytes.HasPrefix(answer, []byte("{")) {
		var object struct{ Items []itemResult }
		if json.Unmarshal(answer, &object) != nil {
			return nil, false
		}
		list = object.Items
	} else if json.Unmarshal(answer, &list) != nil {
		return nil, false
	}
	for _, it := range list {
		if it.Status < 200 || it.Status > 599 {
			return nil, false
		}
	}
	return list, len(list) > 0
}

// readable is a message's error as an operator reads it: a string, or else as it is.
func readable(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) != nil {
		text = string(raw)
	}
	text = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, strings.ToValidUTF8(text, "�"))
	if len(text) > maxItemError {
		text = strings.ToValidUTF8(text[:maxItemError], "") + "…"
	}
	return text
}
