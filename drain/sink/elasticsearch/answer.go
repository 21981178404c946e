package elasticsearch

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"forebay/drain"
)

// maxReason bounds what the cluster says of a failure, in bytes.
const maxReason = 512

// item is what an answer says of a document.
type item struct {
	Status int   `json:"status"`
	Error  cause `json:"error"`
}

// cause is why something failed.
type cause struct {
	Type   string `json:"type"`
	Reason string `json:"reason"`
}

// decode reads an answer that has to tell of n documents.
func decode(text []byte, n int) ([]item, error) {
	if created(text, n) {
		return slices.Repeat([]item{{Status: http.StatusCreated}}, n), nil
	}
	var answer struct {
		Items []struct {
			Create item `json:"create"`
		} `json:"items"`
	}
	if json.Unmarshal(text, &answer) != nil {
		return nil, errors.New("it is no JSON of the kind")
	}
	if len(answer.Items) != n {
		return nil, fmt.Errorf("it tells of %d documents, %d were sent", len(answer.Items), n)
	}
	items := make([]item, n)
	for i, x := range answer.Items {
		if items[i] = x.Create; x.Create.Status < 200 || x.Create.Status > 599 {
			return nil, fmt.Errorf("document %d has no status", i+1)
		}
	}
	return items, nil
}

// created reports whether an answer is the usual one, which then needs no JSON decoder:
// that would take a tenth of what a document costs.
func created(text []byte, n int) bool {
	one := []byte(`,{"create":{"status":201}}`)
	rest, ok := bytes.CutPrefix(text, []byte(`{"errors":false,"items":[`))
	for i := 0; ok && i < n; i++ {
		rest, ok = bytes.CutPrefix(rest, one[max(0, 1-i):]) // a comma before all but the first
	}
	return ok && string(rest) == "]}"
}

// ofIndex are the errors with status 400 that no document is to blame for.
var ofIndex = []string{"index_closed_exception", "validation_exception"}

// outcome says what becomes of a document's message. One that is there already was
// delivered before. 400 is about the document, unless its index takes none; the
// cluster has no time for 429 and 5xx. All else may change, and is tried again.
func (i item) outcome(host string) drain.Outcome {
	out := drain.Outcome{Status: i.Status}
	switch {
	case i.Status < 300, i.Status == http.StatusConflict:
		out.Class = drain.Success
		return out
	case i.Status == http.StatusBadRequest && !slices.Contains(ofIndex, i.Error.Type),
		i.Status == http.StatusRequestEntityTooLarge:
		out.Class = drain.Permanent
	}
	out.Error = because(fmt.Sprintf("status %d from %s", i.Status, host), i.Error)
	return out
}

// tooLargeAlone is the outcome of a document that no request can carry.
func tooLargeAlone(host string, size int) drain.Outcome {
	return drain.Outcome{
		Class: drain.Permanent, Status: http.StatusRequestEntityTooLarge,
		Error: fmt.Sprintf("too large: status 413 from %s for a request of this message alone, %d bytes", host, size),
	}
}

// refusal is the outcome of a request that was refused as a whole, which says nothing
// of one message: it counts for the sink alone.
func refusal(out drain.Outcome, text []byte) drain.Outcome {
	switch out.Status {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
	default:
		out.Status = 0
	}
	var answer struct {
		Error cause `json:"error"`
	}
	_ = json.Unmarshal(text, &answer) // a proxy answers with other things
	out.Error = because(out.Error, answer.Error)
	return out
}

// because adds a cause, without the part of it that quotes a document.
func because(what string, c cause) string {
	reason, _, _ := strings.Cut(c.Reason, " Preview of field's value")
	for _, s := range []string{c.Type, reason} {
		if s = plain(s); s != "" {
			what += ": " + s
		}
	}
	return what
}

// plain is text of one line and a bounded length.
func plain(s string) string {
	s = strings.Join(strings.Fields(strings.ToValidUTF8(s, "�")), " ")
	if len(s) <= maxReason {
		return s
	}
	end := maxReason
	for !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + "…"
}
