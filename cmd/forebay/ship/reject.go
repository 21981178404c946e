package ship

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"
	"unicode/utf8"
)

// rejection is a line of the file of what was refused.
type rejection struct {
	At     time.Time `json:"at"`
	File   string    `json:"file"`
	Offset int64     `json:"offset"` // bytes before it in the file
	Status int       `json:"status"`
	Reason string    `json:"reason"`
	Line   *string   `json:"line,omitempty"`
	Bytes  []byte    `json:"line_base64,omitempty"` // where it is not UTF-8
}

// reject writes what was refused where an operator finds it, and returns once it is on disk.
func reject(path string, f *file, b []byte, a answer, now time.Time) (lines int64, err error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	at := f.Acked
	for line := range bytes.Lines(b) {
		r := rejection{At: now.UTC(), File: f.Path, Offset: at, Status: a.status, Reason: a.reason}
		at += int64(len(line))
		line = bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
		if len(line) == 0 {
			continue
		}
		if utf8.Valid(line) {
			text := string(line)
			r.Line = &text
		} else {
			r.Bytes = line
		}
		if err := enc.Encode(r); err != nil {
			return 0, err
		}
		lines++
	}
	h, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return 0, fmt.Errorf("rejected lines: %w", err)
	}
	_, err = h.Write(out.Bytes())
	if err == nil {
		err = h.Sync()
	}
	if err = errors.Join(err, h.Close()); err != nil {
		return 0, fmt.Errorf("rejected lines: %w", err)
	}
	return lines, nil
}
