package ingress

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"

	"forebay/buffer"
	"forebay/policies"
)

// A body of Elasticsearch's _bulk is actions, a line each; behind those that create there
// is the document, on a line of its own. What is wrong with a document, or with what is
// asked for it, is told in its place among the answers and keeps back none of the others.
// What is no action refuses the body, since nothing tells which line would be the next.

const (
	maxDocumentID = 512 // bytes, as Elasticsearch has it
	maxIndexName  = 255

	bulkItemBytes = 64 // about what Go makes of one
)

// bulkItem is an action and what becomes of it.
type bulkItem struct {
	op    string // create, index, update or delete
	index string
	id    string     // the caller's; empty: it gave none
	fault *bulkFault // why it is refused; nil: it is stored
}

// bulkFault is an error as Elasticsearch words it. All are told with status 400: some
// shippers send an item again without end for any other that is no success.
type bulkFault struct{ kind, reason string }

func illegal(format string, args ...any) *bulkFault {
	return &bulkFault{"illegal_argument_exception", fmt.Sprintf(format, args...)}
}

// bulkParts cuts a bulk body.
type bulkParts struct {
	parts
	last   []byte // the action that was read last
	action bulkItem
}

// next returns an action and its document, which is nil where the action is refused;
// an empty op is the end. fault says why the body is to be refused because of line n.
func (p *bulkParts) next(limit int64) (item bulkItem, document []byte, fault string) {
	var line []byte
	for len(line) == 0 {
		if len(p.rest) == 0 {
			return bulkItem{}, nil, ""
		}
		line = p.nextLine()
	}
	if !bytes.Equal(line, p.last) { // most agents write the same one for each document
		if p.action, fault = parseAction(line); fault != "" {
			return bulkItem{}, nil, fault
		}
		p.last = line
	}
	item = p.action
	if item.op == "delete" {
		return item, nil, ""
	}
	if len(p.rest) == 0 {
		return bulkItem{}, nil, "is an action without a document behind it"
	}
	document = p.nextLine()
	if item.fault == nil {
		item.fault = documentFault(document, limit)
	}
	if item.fault != nil {
		document = nil
	}
	return item, document, ""
}

func documentFault(document []byte, limit int64) *bulkFault {
	if int64(len(document)) > limit {
		return illegal("the document is over %d bytes", limit)
	}
	fault := jsonFault(document)
	if fault == "" && document[skipSpace(document, 0)] != '{' {
		fault = "is no JSON object"
	}
	if fault != "" {
		return &bulkFault{"mapper_parsing_exception", "the document " + fault}
	}
	return nil
}

// parseAction reads {"create":{"_index":"logs","_id":"7"}}. fault says that it is none.
func parseAction(line []byte) (item bulkItem, fault string) {
	const none = `is no action such as {"create":{}}`
	if !utf8.Valid(line) {
		return bulkItem{}, "is an action that is not UTF-8"
	}
	at := skipSpace(line, 0)
	if jsonFault(line) != "" || line[at] != '{' {
		return bulkItem{}, none
	}
	op, fields, at := nextMember(line, at+1)
	if fields == nil || fields[0] != '{' && string(fields) != "null" {
		return bulkItem{}, none
	}
	if _, more, _ := nextMember(line, at); more != nil {
		return bulkItem{}, none
	}
	switch item.op = op; op {
	case "create", "index":
	case "update", "delete":
		item.fault = illegal("%s is not supported here: documents are only created", op)
	default:
		return bulkItem{}, "is no action: it is none of create, index, update and delete"
	}
	for at = 1; fields[0] == '{'; {
		var name string
		var value []byte
		if name, value, at = nextMember(fields, at); value == nil {
			break
		}
		if f := item.set(name, value); f != nil && item.fault == nil {
			item.fault = f
		}
	}
	return item, ""
}

// nextMember returns a member of an object that is JSON, from the place behind its
// bracket or the member before, and the place behind it. Without a value it is the end.
func nextMember(b []byte, i int) (name string, value []byte, next int) {
	i = skipSpace(b, i)
	if b[i] == ',' {
		i = skipSpace(b, i+1)
	}
	if b[i] == '}' {
		return "", nil, i
	}
	end := skipString(b, i+1)
	name = unquoted(b[i:end])
	i = skipSpace(b, skipSpace(b, end)+1) // past the colon
	next = skipValue(b, i, 0)
	return name, b[i:next], next
}

// unquoted is what a string of JSON stands for.
func unquoted(quoted []byte) (s string) {
	if bytes.IndexByte(quoted, '\\') < 0 {
		return string(quoted[1 : len(quoted)-1])
	}
	_ = json.Unmarshal(quoted, &s) // which is JSON
	return s
}

// set takes a field of an action. Those that say how a document is to be stored would be
// lost on its way, so that they are refused; null is what some write for none.
func (i *bulkItem) set(name string, value []byte) *bulkFault {
	if string(value) == "null" || string(value) == "false" {
		return nil
	}
	c := value[0]
	switch name {
	case "_index":
		if c != '"' {
			return illegal("_index is no string")
		}
		i.index = unquoted(value)
		return indexFault(i.index)
	case "_id":
		switch {
		case c == '"':
			i.id = unquoted(value)
		case c == '-' || '0' <= c && c <= '9':
			i.id = string(value)
		default:
			return illegal("_id is neither a string nor a number")
		}
		return idFault(i.id)
	case "_type": // there is one alone since version 7
		return nil
	}
	return illegal("%s is not supported here: of an action _index and _id are kept", name)
}

// idFault refuses what no header field can carry, too.
func idFault(id string) *bulkFault {
	switch {
	case id == "":
		return illegal("_id is empty")
	case len(id) > maxDocumentID:
		return illegal("_id is over %d bytes", maxDocumentID)
	case strings.ContainsFunc(id, func(c rune) bool { return c < ' ' || c == 0x7f }), strings.TrimSpace(id) != id:
		return illegal("_id has a control character, or a space at its end")
	}
	return nil
}

// indexFault is stricter than Elasticsearch, which takes letters of other scripts, too.
func indexFault(name string) *bulkFault {
	const others = "._-+"
	bad := name == "" || len(name) > maxIndexName || name == "." || name == ".." || strings.IndexByte("_-+", name[0]) >= 0
	for i := range len(name) {
		c := name[i]
		bad = bad || (c < 'a' || c > 'z') && (c < '0' || c > '9') && strings.IndexByte(others, c) < 0
	}
	if bad {
		return &bulkFault{"invalid_index_name_exception", "the index is not named in small letters, digits and " + others + ", or is over 255 bytes"}
	}
	return nil
}

// cutBulk makes items of a body, and messages with nothing but a body and an index of
// those that can be stored.
func (h *Handler) cutBulk(s *scratch, index string, limit int64) (items []bulkItem, msgs []buffer.Message, err error) {
	p := bulkParts{parts: newParts(policies.SplitBulk, s.body)}
	lines, _ := p.most()
	if lines > maxBatchMemory/bulkItemBytes {
		return nil, nil, problemBatchTooLarge()
	}
	if err := h.hold(s, int64(lines)*bulkItemBytes); err != nil {
		return nil, nil, err
	}
	items = make([]bulkItem, 0, lines)
	for {
		item, document, fault := p.next(limit)
		switch {
		case fault != "":
			return nil, nil, problemBadLine(p.unit(), p.n, fault)
		case item.op == "" && len(items) == 0:
			return nil, nil, problemBadRequest("the body holds no actions")
		case item.op == "":
			return items, msgs, nil
		}
		if item.index == "" {
			item.index = index
			if f := indexFault(index); index != "" && f != nil {
				item.fault = f
			}
		}
		if items = append(items, item); item.fault != nil {
			continue
		}
		if len(msgs) == cap(msgs) {
			if msgs, err = h.moreMessages(s, msgs, max(lines/2+1, 2*len(msgs))); err != nil {
				return nil, nil, err
			}
		}
		msgs = append(msgs, buffer.Message{Body: document, Index: len(items) - 1})
	}
}
