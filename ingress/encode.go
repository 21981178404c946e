package ingress

import (
	"encoding/json"
	"hash/fnv"
	"strconv"
	"time"
)

// The receipt of every accepted message, and the problem of every refused one, is
// written by hand: by reflection it would cost more than all else that ingress
// does. Tests hold the result equal to that of encoding/json.

func appendReceipt(b []byte, r *Receipt) []byte {
	b = appendString(append(b, `{"id":`...), r.ID)
	b = appendString(append(b, `,"stream":`...), r.Stream)
	b = appendString(append(b, `,"state":`...), string(r.State))
	b = appendPosition(append(b, `,"position":`...), r.Position)
	b = strconv.AppendBool(append(b, `,"position_exact":`...), r.PositionExact)
	b = appendTimestamp(append(b, `,"eta":`...), r.ETA)
	b = appendTimestamp(append(b, `,"eta_p90":`...), r.ETAP90)
	b = appendText(append(b, `,"eta_note":`...), r.ETANote)
	b = appendTimestamp(append(b, `,"accepted_at":`...), r.AcceptedAt)
	b = appendTimestamp(append(b, `,"deadline":`...), r.Deadline)
	b = append(b, `,"drains":[`...)
	for i := range r.Drains {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendDrain(b, &r.Drains[i])
	}
	return append(b, `]}`...)
}

func appendDrain(b []byte, d *DrainReceipt) []byte {
	b = appendString(append(b, `{"drain":`...), d.Drain)
	b = appendString(append(b, `,"state":`...), string(d.State))
	b = appendPosition(append(b, `,"position":`...), d.Position)
	b = appendTimestamp(append(b, `,"eta":`...), d.ETA)
	b = appendTimestamp(append(b, `,"eta_p90":`...), d.ETAP90)
	b = appendText(append(b, `,"eta_note":`...), d.ETANote)
	b = strconv.AppendInt(append(b, `,"attempts":`...), int64(d.Attempts), 10)
	b = appendTimestamp(append(b, `,"next_attempt_at":`...), d.NextAttemptAt)
	b = appendText(append(b, `,"last_error":`...), d.LastError)
	b = appendResult(append(b, `,"result":`...), d.Result)
	b = appendText(append(b, `,"reason":`...), d.Reason)
	b = appendTimestamp(append(b, `,"finished_at":`...), d.FinishedAt)
	return append(b, '}')
}

// appendResult may be slow: fresh receipts have no result.
func appendResult(b []byte, r *Result) []byte {
	if r == nil {
		return append(b, `null`...)
	}
	return appendJSON(b, r)
}

func appendProblem(b []byte, p *problemDocument) []byte {
	b = appendString(append(b, `{"type":`...), p.Type)
	b = appendString(append(b, `,"title":`...), p.Title)
	b = strconv.AppendInt(append(b, `,"status":`...), int64(p.Status), 10)
	b = appendString(append(b, `,"detail":`...), p.Detail)
	b = appendString(append(b, `,"instance":`...), p.Instance)
	b = appendString(append(b, `,"request_id":`...), p.RequestID)
	if p.RetryAfter != 0 {
		b = strconv.AppendInt(append(b, `,"retry_after_seconds":`...), int64(p.RetryAfter), 10)
	}
	if p.Reason != "" {
		b = appendString(append(b, `,"reason":`...), p.Reason)
	}
	if p.Line != 0 {
		b = strconv.AppendInt(append(b, `,"line":`...), int64(p.Line), 10)
	}
	if len(p.Violated) > 0 {
		b = append(b, `,"violated-policies":`...)
		for i, name := range p.Violated {
			b = appendString(append(b, "[,"[min(i, 1)]), name)
		}
		b = append(b, ']')
	}
	return append(b, '}')
}

func appendPosition(b []byte, p *uint64) []byte {
	if p == nil {
		return append(b, `null`...)
	}
	return strconv.AppendUint(b, *p, 10)
}

func appendText(b []byte, s *string) []byte {
	if s == nil {
		return append(b, `null`...)
	}
	return appendString(b, *s)
}

func appendTimestamp(b []byte, t Timestamp) []byte {
	if t.IsZero() {
		return append(b, `null`...)
	}
	b = append(b, '"')
	b = t.UTC().AppendFormat(b, time.RFC3339) // one of the two layouts that package time is quick at
	ms := t.Nanosecond() / int(time.Millisecond)
	return append(b[:len(b)-len("Z")], '.', '0'+byte(ms/100), '0'+byte(ms/10%10), '0'+byte(ms%10), 'Z', '"')
}

// appendString writes names and ids as they are, and leaves all that needs an
// escape to encoding/json.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ' || c > '~', c == '"', c == '\\', c == '<', c == '>', c == '&':
			return appendJSON(b, s)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

func appendJSON(b []byte, v any) []byte {
	text, err := json.Marshal(v)
	if err != nil { // strings, integers and maps of strings alone: cannot be
		return append(b, `null`...)
	}
	return append(b, text...)
}

// entityTag is weak, and made of all but the estimates: they move with every
// look, and what they are made from is in it.
func (r *Receipt) entityTag() string {
	var b []byte
	for i := range r.Drains {
		d := &r.Drains[i]
		b = appendString(b, d.Drain)
		b = appendString(b, string(d.State))
		b = appendPosition(b, d.Position)
		b = strconv.AppendInt(append(b, ' '), int64(d.Attempts), 10)
		b = d.NextAttemptAt.AppendFormat(b, time.RFC3339Nano)
		b = appendText(b, d.LastError)
		b = appendResult(b, d.Result)
	}
	h := fnv.New64a()
	_, _ = h.Write(b) // a hash's Write returns no error
	return `W/"` + strconv.FormatUint(h.Sum64(), 16) + `"`
}
