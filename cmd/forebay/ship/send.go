package ship

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

const (
	maxRetryAfter  = 5 * time.Minute
	maxAnswerBytes = 64 << 10
	zstdWindow     = 1 << 20
)

// verdict is what came of a batch.
type verdict int

const (
	taken   verdict = iota
	retried         // later: nobody took it
	refused         // and so will be every other: it is not the batch that is wrong
	bad             // a line of it is wrong
	altered         // its name is that of another batch
	unsplit         // it was taken as one message
)

// answer is what a receiver said to a batch.
type answer struct {
	verdict
	status    int
	line      int           // the bad one, from 1; 0: not said
	wait      time.Duration // asked for; 0: not said
	duplicate bool
	ours      bool   // it is a problem as Forebay writes them
	reason    string // for people
}

// sender posts batches.
type sender struct {
	cfg    *Config
	client http.Client
	slots  chan *packer // one for each that is under way
}

func newSender(cfg *Config) *sender {
	s := &sender{cfg: cfg, slots: make(chan *packer, atOnce)}
	for range atOnce {
		s.slots <- &packer{zstd: cfg.Zstd}
	}
	s.client = http.Client{
		Timeout: cfg.Timeout,
		// Neither a proxy nor a redirect gets to see the key.
		Transport: &http.Transport{
			MaxConnsPerHost: atOnce, MaxIdleConnsPerHost: atOnce, IdleConnTimeout: time.Minute,
			TLSClientConfig:        &tls.Config{RootCAs: cfg.Roots, MinVersion: tls.VersionTLS12},
			MaxResponseHeaderBytes: maxAnswerBytes,
			DisableCompression:     true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return s
}

// packer compresses one batch at a time.
type packer struct {
	zstd bool
	buf  bytes.Buffer
	gz   *gzip.Writer
	zs   *zstd.Encoder
}

// pack returns b compressed, until the next call.
func (p *packer) pack(b []byte) ([]byte, error) {
	p.buf.Reset()
	if p.zstd {
		if p.zs == nil {
			var err error
			if p.zs, err = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(zstdWindow)); err != nil {
				return nil, err
			}
		}
		return p.zs.EncodeAll(b, p.buf.AvailableBuffer()), nil
	}
	if p.gz == nil {
		var err error
		if p.gz, err = gzip.NewWriterLevel(&p.buf, gzip.BestSpeed); err != nil {
			return nil, err
		}
	}
	p.gz.Reset(&p.buf)
	if _, err := p.gz.Write(b); err != nil {
		return nil, err
	}
	if err := p.gz.Close(); err != nil {
		return nil, err
	}
	return p.buf.Bytes(), nil
}

// send posts a batch, and says what came of it.
func (s *sender) send(ctx context.Context, name string, body []byte) answer {
	p := <-s.slots
	defer func() { s.slots <- p }()
	packed, err := p.pack(body)
	if err != nil {
		return answer{verdict: retried, reason: err.Error()}
	}
	req, err := s.request(ctx, name, packed)
	if err != nil {
		return answer{verdict: retried, reason: err.Error()}
	}
	resp, err := s.client.Do(req)
	if err != nil {
		if uerr, ok := errors.AsType[*url.Error](err); ok {
			err = uerr.Err
		}
		return answer{verdict: retried, reason: err.Error()}
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes))
	if err != nil {
		return answer{verdict: retried, reason: "the answer broke off: " + err.Error()}
	}
	return judge(resp, raw, countLines(body))
}

func (s *sender) request(ctx context.Context, name string, packed []byte) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.cfg.Target.String(), bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	req.Header = s.cfg.Header.Clone()
	if req.Header == nil {
		req.Header = http.Header{}
	}
	set := func(name, value string) {
		if req.Header.Get(name) == "" {
			req.Header.Set(name, value)
		}
	}
	set("User-Agent", "forebay-ship")
	set("Content-Type", map[Kind]string{Lines: "text/plain; charset=utf-8", NDJSON: "application/x-ndjson"}[s.cfg.Kind])
	req.Header.Set("Batch-Id", name)
	req.Header.Set("Content-Encoding", map[bool]string{false: "gzip", true: "zstd"}[s.cfg.Zstd])
	if s.cfg.KeyFile != "" {
		key, err := ReadKey(s.cfg.KeyFile) // each time: it may have been exchanged
		if err != nil {
			return nil, err
		}
		if textproto.CanonicalMIMEHeaderKey(s.cfg.KeyName) == "Authorization" {
			key = "Bearer " + key
		}
		req.Header.Set(s.cfg.KeyName, key)
	}
	return req, nil
}

// ReadKey reads the file of an API key, which holds nothing else.
func ReadKey(path string) (string, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("key: %w", err)
	}
	words := strings.Fields(string(raw))
	if len(words) != 1 {
		return "", fmt.Errorf("key: %s holds %d words, and a key is one", path, len(words))
	}
	return words[0], nil
}

// told is what is read of the body of an answer, a batch's or a problem's.
type told struct {
	ID        string `json:"id"`
	Accepted  *int64 `json:"accepted"`
	Duplicate bool   `json:"duplicate"`
	Type      string `json:"type"`
	Detail    string `json:"detail"`
	Reason    string `json:"reason"`
	Line      int    `json:"line"`
}

// judge reads an answer to a batch of so many lines.
func judge(resp *http.Response, raw []byte, lines int64) answer {
	var t told
	_ = json.Unmarshal(raw, &t) // what is none of ours has a status alone
	a := answer{status: resp.StatusCode, line: t.Line, wait: retryAfter(resp.Header.Get("Retry-After"), time.Now()), duplicate: t.Duplicate, ours: strings.HasPrefix(t.Type, "urn:forebay:problem:")}
	a.reason = strings.TrimSpace(fmt.Sprintf("%d %s", a.status, http.StatusText(a.status)))
	for _, more := range []string{t.Reason, t.Detail} {
		if more != "" {
			a.reason += ": " + more
		}
	}
	switch code := a.status; {
	case code == http.StatusAccepted && t.ID != "": // a receipt
		a.verdict, a.reason = unsplit, "it was stored as one"
	case code == http.StatusAccepted && t.Accepted != nil && *t.Accepted != lines:
		a.verdict, a.reason = unsplit, fmt.Sprintf("it has %d lines, and %d messages were made of it", lines, *t.Accepted)
	case code >= 200 && code < 300:
		a.verdict = taken
	case code == http.StatusBadRequest, code == http.StatusRequestEntityTooLarge:
		a.verdict = bad
	case code == http.StatusUnprocessableEntity:
		a.verdict = altered
	case code >= 500, code == http.StatusTooManyRequests, code == http.StatusRequestTimeout, code == http.StatusConflict, code == http.StatusTooEarly:
		a.verdict = retried
	default:
		a.verdict = refused
	}
	return a
}

// retryAfter reads seconds or a date, and bounds what it says.
func retryAfter(v string, now time.Time) time.Duration {
	v = strings.TrimSpace(v)
	var d time.Duration
	if n, err := strconv.ParseUint(v, 10, 31); err == nil {
		d = time.Duration(n) * time.Second
	} else if at, err := http.ParseTime(v); err == nil {
		d = at.Sub(now)
	}
	return min(max(d, 0), maxRetryAfter)
}
