package http

import (
	"io"
	nethttp "net/http"
	"slices"
	"strings"

	"forebay/buffer"
)

// cancelKeyField carries what the sink asks to cancel. It is for us alone.
const cancelKeyField = "Forebay-Cancel-Key"

const (
	// maxCancelKeys bounds the keys of an answer, and maxCancelKey the bytes of one.
	maxCancelKeys = 16
	maxCancelKey  = 1024
)

// cancelKeys returns what an answer asks to cancel: one key a field line. What
// is over the bounds is left out.
func cancelKeys(header nethttp.Header) (keys []string) {
	for _, key := range header[cancelKeyField] {
		if key != "" && len(key) <= maxCancelKey && len(keys) < maxCancelKeys {
			keys = append(keys, key)
		}
	}
	return keys
}

// maxAnswerHeader bounds the header fields that are kept of an answer, in bytes.
const maxAnswerHeader = 8 << 10

// unkept are fields of an answer that belong to the connection, or to
// whoever would be logged in by them.
var unkept = []string{
	"Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Connection", "Set-Cookie", "Te", "Trailer",
	"Transfer-Encoding", "Upgrade", "Content-Length",
}

// read takes what is to be kept of an answer and reads on to its end, so that
// the connection can be used again. A body over the bound costs the connection,
// not the message.
func read(resp *nethttp.Response, keep int) (*buffer.Answer, error) {
	if resp.StatusCode == nethttp.StatusSwitchingProtocols {
		return nil, nil // no body follows, but a protocol that nobody asked for
	}
	var answer *buffer.Answer
	if keep > 0 {
		body, err := io.ReadAll(io.LimitReader(resp.Body, int64(keep)+1))
		if err != nil {
			return nil, err
		}
		answer = &buffer.Answer{Header: kept(resp.Header), Truncated: len(body) > keep}
		answer.Body = body[:min(len(body), keep)]
	}
	if resp.ContentLength == 0 {
		return answer, nil
	}
	_, err := io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswerBody))
	return answer, err
}

// kept returns the end-to-end fields of an answer that are not for us, in the order of their names.
func kept(header nethttp.Header) []buffer.Field {
	var fields []buffer.Field
	names := make([]string, 0, len(header))
	for name := range header {
		names = append(names, name)
	}
	slices.Sort(names)
	connection := strings.ToLower(strings.Join(header["Connection"], ","))
	size := 0
	for _, name := range names {
		if strings.HasPrefix(name, "Forebay-") || slices.Contains(unkept, name) || slices.Contains(strings.FieldsFunc(connection, isSeparator), strings.ToLower(name)) {
			continue
		}
		for _, value := range header[name] {
			if size += len(name) + len(value); size > maxAnswerHeader {
				return fields
			}
			fields = append(fields, buffer.Field{Name: name, Value: value})
		}
	}
	return fields
}

func isSeparator(r rune) bool { return r == ',' || r == ' ' || r == '\t' }
