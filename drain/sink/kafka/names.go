package kafka

import (
	"encoding/base64"
	"net/textproto"
	"net/url"
	"slices"
	"strings"

	"forebay/buffer"
)

// namesField has the names of a record's headers as they were, with bytes that no
// field's name has as %20.
const namesField = "Forebay-Source-Names"

// namesOf are those names, by that of the field.
func namesOf(fields []buffer.Field) map[string]string {
	i := slices.IndexFunc(fields, func(f buffer.Field) bool { return f.Name == namesField })
	if i < 0 {
		return nil
	}
	names := make(map[string]string)
	for name := range strings.SplitSeq(fields[i].Value, ", ") {
		if was, err := url.PathUnescape(name); err == nil {
			names[textproto.CanonicalMIMEHeaderKey(name)] = was
		}
	}
	return names
}

// plain is what a source wrote as a byte sequence, since a field cannot hold it, or
// the value itself.
func plain(value string) string {
	if len(value) < 2 || value[0] != ':' || value[len(value)-1] != ':' {
		return value
	}
	bytes, err := base64.StdEncoding.DecodeString(value[1 : len(value)-1])
	if err != nil {
		return value
	}
	return string(bytes)
}
