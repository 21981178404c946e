package webhdfs

import (
	"bytes"
	"encoding/json"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"forebay/drain"
)

// codec compresses what is added to a file: each time a whole gzip member or zstd frame,
// so that a file is made of whole ones and readers take it for one.
type codec struct {
	extension string
	encode    func(text []byte) ([]byte, error)
}

func codecOf(name string) (codec, error) {
	switch name {
	case "gzip":
		return codec{".gz", zip}, nil
	case "zstd":
		enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedDefault))
		if err != nil {
			return codec{}, err
		}
		return codec{".zst", func(text []byte) ([]byte, error) { return enc.EncodeAll(text, nil), nil }}, nil
	default:
		return codec{"", func(text []byte) ([]byte, error) { return text, nil }}, nil
	}
}

func zip(text []byte) ([]byte, error) {
	b := bytes.NewBuffer(make([]byte, 0, len(text)/4+512))
	w := gzip.NewWriter(b)
	if _, err := w.Write(text); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// lines are messages as they lie in a file: one a line. A JSON document that has line
// breaks of its own loses them; what is no JSON keeps all of its bytes.
func lines(msgs []drain.Delivery) []byte {
	size := 0
	for i := range msgs {
		size += len(msgs[i].Body) + 1
	}
	b := bytes.NewBuffer(make([]byte, 0, size))
	for i := range msgs {
		body := bytes.TrimRight(msgs[i].Body, "\r\n")
		if bytes.IndexByte(body, '\n') < 0 || json.Compact(b, body) != nil {
			b.Write(body)
		}
		b.WriteByte('\n')
	}
	return b.Bytes()
}
