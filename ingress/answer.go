package ingress

import (
	"net/http"
	"slices"
	"unicode/utf8"

	"forebay/buffer"
)

// newResult says what a sink answered; nil where it never did.
func newResult(d *buffer.DrainStatus) *Result {
	if d.Status == 0 {
		return nil
	}
	r := &Result{Status: d.Status}
	if d.Answer == nil {
		return r
	}
	r.Headers, r.Truncated = http.Header{}, d.Answer.Truncated
	for _, f := range d.Answer.Header {
		r.Headers.Add(f.Name, f.Value)
	}
	body := d.Answer.Body
	if r.Truncated {
		body = wholeRunes(body)
	}
	if !utf8.Valid(body) {
		r.BodyBase64 = d.Answer.Body
		return r
	}
	text := string(body)
	r.Body = &text
	return r
}

// wholeRunes leaves out the beginning of a rune that a text was cut in.
func wholeRunes(b []byte) []byte {
	for n := 1; n < utf8.UTFMax && n <= len(b); n++ {
		if tail := b[len(b)-n:]; utf8.RuneStart(tail[0]) {
			if !utf8.FullRune(tail) {
				return b[:len(b)-n]
			}
			return b
		}
	}
	return b
}

// sinkAnswer returns what a caller who waited for drain is answered with in
// the place of the receipt: the sink's own answer, if all of it was kept. With
// several drains and none of them named there is no one answer.
func sinkAnswer(st *buffer.Status, drain string) *buffer.DrainStatus {
	for i := range st.Drains {
		d := &st.Drains[i]
		if d.Drain != drain && (drain != "" || len(st.Drains) > 1) {
			continue
		}
		if d.State.Final() && d.Answer != nil && !d.Answer.Truncated && http.StatusOK <= d.Status && d.Status < 600 {
			return d
		}
	}
	return nil
}

// relay answers with what a sink did, as if the request had been passed to it.
// Its Location is its own: Forebay-Id leads to the receipt.
func (x *exchange) relay(id string, d *buffer.DrainStatus) {
	h := x.w.Header()
	named := connectionOptions(valuesOf(d.Answer.Header, "Connection"))
	for _, f := range d.Answer.Header {
		if !dropped(f.Name) && !slices.Contains(named, f.Name) {
			h.Add(f.Name, f.Value)
		}
	}
	x.set("Via", via(valuesOf(d.Answer.Header, "Via")))
	x.set("Forebay-Id", id)
	x.unguessed()
	x.write(d.Status, d.Answer.Body)
}

func valuesOf(fields []buffer.Field, name string) (values []string) {
	for _, f := range fields {
		if f.Name == name {
			values = append(values, f.Value)
		}
	}
	return values
}
