package buffer_test

import (
	"bytes"
	"compress/gzip"
	"os"
	"testing"
	"time"

	"forebay/buffer"
)

// TestLogsOnDisk: logs that are posted in batches take on disk little more than their
// agents would have sent of them with gzip.
func TestLogsOnDisk(t *testing.T) {
	for _, name := range []string{"HDFS", "OpenSSH", "Apache"} {
		text, err := os.ReadFile("../test/bench/testdata/logs/" + name + ".log")
		if err != nil {
			t.Fatal(err)
		}
		e := open(t, t.TempDir())
		configure(t, e, "mail")
		var sent int64
		for range 5 {
			var z bytes.Buffer
			w := gzip.NewWriter(&z)
			if _, err := w.Write(text); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			sent += int64(z.Len())
			if _, err := e.Append(t.Context(), "orders", time.Now(), asBatch(text)); err != nil {
				t.Fatal(err)
			}
		}
		stored := e.Stats().Streams[0].Bytes
		t.Logf("%s: %d bytes of gzip, %d stored", name, sent, stored)
		if stored > sent*12/10 {
			t.Errorf("%s: %d bytes stored of %d bytes of gzip, want at most 1.2 times as many", name, stored, sent)
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
}

// asBatch are the lines of a text as ingress splits them off one body.
func asBatch(text []byte) []buffer.Message {
	header := []buffer.Field{
		{Name: "Accept-Encoding", Value: "gzip"},
		{Name: "Content-Type", Value: "text/plain"},
		{Name: "User-Agent", Value: "agent/1.0"},
		{Name: "Via", Value: "1.1 forebay"},
		{Name: "X-Forwarded-Host", Value: "logs.example.com"},
		{Name: "X-Forwarded-Proto", Value: "http"},
		{Name: "X-Request-Id", Value: "0c5f2a1be2d94b7c"},
	}
	var msgs []buffer.Message
	for line := range bytes.Lines(text) {
		m := buffer.Message{Method: "POST", Target: "/v1/logs", Header: header, Body: bytes.TrimRight(line, "\r\n"), Batch: "0c5f2a1be2d94b7c", Index: len(msgs)}
		msgs = append(msgs, m)
	}
	return msgs
}
