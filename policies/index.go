package policies

import (
	"fmt"
	"regexp"
	"strings"
	"time"
)

// maxIndexBytes bounds the name of an index, as Elasticsearch does.
const maxIndexBytes = 255

// IndexName says into which index a message goes: words, its day, and what stands in
// the message itself. It is immutable.
type IndexName struct{ parts []indexPart }

// indexPart is a word, the day, or a place in the message.
type indexPart struct {
	word  string
	day   bool
	place keyPart
}

// dayFormat is how {date} is written in the names of indices and folders.
const dayFormat = "2006-01-02"

// OfMessage reports whether the name depends on what stands in the message.
func (n IndexName) OfMessage() bool {
	for _, p := range n.parts {
		if p.word == "" && !p.day {
			return true
		}
	}
	return false
}

// Expand returns the name for a message that was accepted on a day. It fails where the
// message lacks a part of it, or has one that must not stand in a name: all but small
// letters, digits, - _ and ., one of these in front, or two dots in a row.
func (n IndexName) Expand(day time.Time, header func(name string) []string, body []byte) (string, error) {
	var b strings.Builder
	for _, p := range n.parts {
		switch {
		case p.word != "":
			b.WriteString(p.word)
		case p.day:
			b.WriteString(day.Format(dayFormat))
		default:
			value := p.place.extract(header, body)
			if value == "" {
				return "", fmt.Errorf("%s is not there", p.place)
			}
			if !indexValue.MatchString(value) || strings.Contains(value, "..") {
				return "", fmt.Errorf("%s is %s, which no index can be named by", p.place, quote(value))
			}
			b.WriteString(value)
		}
	}
	if b.Len() > maxIndexBytes {
		return "", fmt.Errorf("its name is over %d bytes", maxIndexBytes)
	}
	return b.String(), nil
}

// String is the name as a policy writes it.
func (n IndexName) String() string {
	var b strings.Builder
	for _, p := range n.parts {
		switch {
		case p.word != "":
			b.WriteString(p.word)
		case p.day:
			b.WriteString("{date}")
		default:
			b.WriteString("{" + p.place.String() + "}")
		}
	}
	return b.String()
}

// Equal reports whether two names are the same for every message.
func (n IndexName) Equal(other IndexName) bool { return n.String() == other.String() }

var (
	indexForm  = regexp.MustCompile(`^([a-z0-9]|\{[^{}]*\})([a-z0-9._-]|\{[^{}]*\})*$`)
	indexToken = regexp.MustCompile(`[^{}]+|\{[^{}]*\}`)
	indexValue = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]*$`)
)

// A message of a bulk request keeps in fields of ours what its caller named: the index,
// which alone of them can name an index, and the document's id. No other caller's message
// has one.
const (
	BulkIndex = "Forebay-Index"
	BulkID    = "Forebay-Document-Id"
)

func (v value) indexPlace(s string) (keyPart, bool) {
	if s == "header:"+BulkIndex {
		return keyPart{header: BulkIndex}, true
	}
	return v.keyPart(s)
}

// indexShape is what of a name an editor can see.
const indexShape = `^([a-z0-9]|\{(date|json:/[^{}]*|header:[^{}]+)\})([a-z0-9._-]|\{(date|json:/[^{}]*|header:[^{}]+)\})*$`

// indexName reads the name of an index.
func (v value) indexName(to *IndexName) {
	const words = "small letters, digits, . _ -, {date}, {json:/service} and {header:X-Service}"
	var text string
	if v.form(indexForm, words, &text); text == "" {
		return
	}
	if len(text) > maxIndexBytes {
		v.fail("choose a shorter one", "index is over %d bytes", maxIndexBytes)
		return
	}
	var parts []indexPart
	for _, token := range indexToken.FindAllString(text, -1) {
		inner, placed := strings.CutPrefix(token, "{")
		inner = strings.TrimSuffix(inner, "}")
		switch {
		case !placed:
			parts = append(parts, indexPart{word: token})
		case inner == "date":
			parts = append(parts, indexPart{day: true})
		case !strings.HasPrefix(inner, "json:") && !strings.HasPrefix(inner, "header:"):
			v.fail("write "+words, "index cannot have %s in it", quote(token))
			return
		default:
			place, ok := v.indexPlace(inner)
			if ok && place.pointer.many() {
				v.fail("name one element: json:/items/0/sku", "%s names several values, and index has room for one", quote(token))
			}
			if !ok || place.pointer.many() {
				return
			}
			parts = append(parts, indexPart{place: place})
		}
	}
	*to = IndexName{parts}
}
