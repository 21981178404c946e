package elasticsearch

import (
	"bytes"
	"context"
	"io"
	"net/http"

	"github.com/klauspost/compress/gzip"

	"forebay/drain"
)

const (
	// fields are those of an answer that are looked at; the cluster sends no others.
	fields = "errors,items.*.status,items.*.error.type,items.*.error.reason,error.type,error.reason"
	// maxAnswer and maxItem bound the bytes of an answer: at all, and for each document.
	maxAnswer = 1 << 20
	maxItem   = 8 << 10
)

// said is what became of a request.
type said uint8

const (
	refused  said = iota // none of its documents was taken, for what is not theirs
	accepted             // each document has its outcome
	tooLarge             // and if there is but one document, that is its outcome
)

// send makes a request of a part. Where it was refused, failed is the outcome of all,
// also of what would have been sent behind it.
func (s *Sink) send(ctx context.Context, b *bulk, p part, outs []drain.Outcome) (_ said, failed drain.Outcome) {
	req, err := s.request(ctx, b.body(p))
	if err != nil {
		return refused, drain.Outcome{Error: "unusable request: " + err.Error()}
	}
	a, failed := s.Exchange(ctx, req)
	if a == nil {
		return refused, failed
	}
	defer a.Close()
	most := maxAnswer + (p.to-p.from)*maxItem
	text, err := io.ReadAll(io.LimitReader(a.Body, int64(most)))
	switch {
	case err != nil:
		return refused, a.CutOff(err)
	case a.StatusCode == http.StatusRequestEntityTooLarge:
		if p.single() {
			outs[b.docs[p.from].msg] = tooLargeAlone(a.Host(), len(b.body(p)))
		}
		return tooLarge, drain.Outcome{}
	case a.StatusCode < 200 || a.StatusCode > 299:
		return refused, refusal(a.Failed(), text)
	}
	items, err := decode(text, p.to-p.from)
	if err != nil {
		return refused, drain.Outcome{Error: "malformed answer: " + a.Host() + ": " + err.Error()}
	}
	for i, d := range b.docs[p.from:p.to] {
		outs[d.msg] = items[i].outcome(a.Host())
	}
	return accepted, drain.Outcome{}
}

// request is one with a body that is the text, compressed if the policy says so. The
// transport may keep it for longer than the attempt lasts, so it has memory of its own.
func (s *Sink) request(ctx context.Context, text []byte) (*http.Request, error) {
	pack, encoding := s.zip, "gzip"
	if s.policy.Compression == "none" {
		pack, encoding = clone, ""
	}
	body, err := pack(text)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://sink.invalid/?filter_path="+fields, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "forebay")
	if encoding != "" {
		req.Header.Set("Content-Encoding", encoding)
	}
	switch {
	case s.policy.Username != "":
		req.SetBasicAuth(s.policy.Username, s.policy.Password.Reveal())
	case s.policy.APIKey.Reveal() != "":
		req.Header.Set("Authorization", "ApiKey "+s.policy.APIKey.Reveal())
	}
	return req, nil
}

func clone(text []byte) ([]byte, error) { return bytes.Clone(text), nil }

func (s *Sink) zip(text []byte) ([]byte, error) {
	body := bytes.NewBuffer(make([]byte, 0, len(text)/4+512))
	w, _ := s.zips.Get().(*gzip.Writer)
	if w == nil {
		var err error
		if w, err = gzip.NewWriterLevel(body, gzip.BestSpeed); err != nil {
			return nil, err
		}
	} else {
		w.Reset(body)
	}
	defer s.zips.Put(w)
	if _, err := w.Write(text); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return body.Bytes(), nil
}
