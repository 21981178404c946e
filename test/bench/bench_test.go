package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestHistogram(t *testing.T) {
	for _, d := range []time.Duration{
		0, time.Microsecond, 31 * time.Microsecond, 32 * time.Microsecond, 63 * time.Microsecond,
		64 * time.Microsecond, 999 * time.Microsecond, 12345 * time.Microsecond, time.Second, time.Hour,
	} {
		got := upper(bucket(d))
		if got < d || got > max(d+d/30, time.Microsecond) {
			t.Errorf("%v is counted as up to %v, want within 1/30 above", d, got)
		}
	}
	var h, other histogram
	for i := range 100 {
		h.record(time.Duration(i+1) * time.Millisecond)
	}
	other.add(&h)
	other.add(&h)
	for _, tt := range []struct {
		q    float64
		want time.Duration
	}{{0.5, 51 * time.Millisecond}, {0.99, 100 * time.Millisecond}, {1, 100 * time.Millisecond}} {
		if got := other.quantile(tt.q); got < tt.want || got > tt.want+tt.want/25 {
			t.Errorf("quantile(%v) = %v, want about %v", tt.q, got, tt.want)
		}
	}
	var none histogram
	if got := none.quantile(0.5); got != 0 {
		t.Errorf("quantile of nothing = %v, want 0", got)
	}
}

func TestReadAccepted(t *testing.T) {
	tests := []struct {
		name, answer string
		ok           bool
	}{
		{"with a body", "HTTP/1.1 202 Accepted\r\ncontent-length: 5\r\nX: y\r\n\r\nhello", true},
		{"empty", "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n", true},
		{"refused", "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", false},
		{"no length", "HTTP/1.1 202 Accepted\r\n\r\n", false},
		{"cut off", "HTTP/1.1 202 Accepted\r\nContent-Length: 5\r\n\r\nhel", false},
		{"nothing", "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := bufio.NewReader(strings.NewReader(tt.answer))
			err := readAccepted(r)
			if (err == nil) != tt.ok {
				t.Errorf("readAccepted(%q) = %v, want ok %v", tt.answer, err, tt.ok)
			}
			if _, rest := r.ReadByte(); tt.ok && !errors.Is(rest, io.EOF) {
				t.Errorf("readAccepted(%q) left something unread", tt.answer)
			}
		})
	}
}

func TestLoad(t *testing.T) {
	all := inTurn([][]byte{[]byte(`{"n":1}`), []byte(`{"n":22}`)}, 4)
	srv := httptest.NewServer(http.HandlerFunc(answerBare))
	defer srv.Close()
	r, err := load(t.Context(), httpTarget(strings.TrimPrefix(srv.URL, "http://"), "application/json"), all, 4, 10*time.Millisecond, 50*time.Millisecond)
	if err != nil || r.requests == 0 || r.latency.n != r.requests || r.body < 7*r.requests {
		t.Errorf("load = %d requests, %d latencies, %d body bytes, %v", r.requests, r.latency.n, r.body, err)
	}

	refusing := httptest.NewServer(http.NotFoundHandler())
	defer refusing.Close()
	if _, err := load(t.Context(), httpTarget(strings.TrimPrefix(refusing.URL, "http://"), "application/json"), all, 2, 0, time.Second); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("load of a server that answers 404 = %v, want an error that says so", err)
	}
}

// TestBatches: every line of every batch is an order with an id of its own.
func TestBatches(t *testing.T) {
	all, err := inBatches([][]byte{[]byte(`{"order_id":"1","sku":"a"}`), []byte(`{"order_id":"2","sku":"b","note":"n"}`)})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	one, two := all(0), all(1)
	for _, next := range []func() []byte{one, two, one} {
		for line := range bytes.Lines(next()) {
			var order struct {
				ID  string `json:"order_id"`
				SKU string `json:"sku"`
			}
			if err := json.Unmarshal(line, &order); err != nil || order.SKU == "" || len(line) < lineBytes {
				t.Fatalf("%s: %v", line, err)
			}
			seen[order.ID] = true
		}
	}
	if len(seen) != 3*perBatch {
		t.Errorf("%d ids in three batches", len(seen))
	}
}

func TestPerfRate(t *testing.T) {
	const said = "Reading payloads from: f\n" +
		"100 records sent, 10.0 records/sec (0.01 MB/sec), 1.0 ms avg latency, 2.0 ms max latency.\n" +
		"600 records sent, 100.0 records/sec (0.03 MB/sec), 1.0 ms avg latency, 2.0 ms max latency.\n" +
		"400 records sent, 200.0 records/sec (0.06 MB/sec), 1.0 ms avg latency, 2.0 ms max latency.\n"
	if got, err := perfRate(strings.NewReader(said), 3); err != nil || got != 125 {
		t.Errorf("rate = %v, %v, want 1,000 records in 8 s", got, err)
	}
	if got, err := perfRate(strings.NewReader(said), 4); err == nil || !strings.Contains(err.Error(), "ended early") {
		t.Errorf("rate of three windows of four = %v, %v, want an error", got, err)
	}
}

func TestReached(t *testing.T) {
	ours, theirs := []float64{120, 130, 500}, []float64{100, 100, 100}
	if err := reached(options{hold: true}, "ours / theirs", ours, theirs, 1.3); err != nil {
		t.Errorf("a median of 1.3 does not reach 1.3: %v", err)
	}
	if err := reached(options{hold: true}, "ours / theirs", ours, theirs, 1.31); err == nil {
		t.Error("a median of 1.3 reaches 1.31")
	}
}

func TestKafkaIsMissing(t *testing.T) {
	_, err := startBroker(filepath.Join(t.TempDir(), "none"), t.TempDir())
	if err == nil || !strings.Contains(err.Error(), "make parts PART=kafka") {
		t.Errorf("startBroker = %v, want an error that says what to run", err)
	}
}

func TestAddress(t *testing.T) {
	for _, line := range []string{`msg=ready public=127.0.0.1:81 admin=127.0.0.1:82`, `{"msg":"ready","admin":"127.0.0.1:82","public":"127.0.0.1:81"}`} {
		if p, a := address("public", line), address("admin", line); p != "127.0.0.1:81" || a != "127.0.0.1:82" {
			t.Errorf("addresses %q and %q of %s", p, a, line)
		}
	}
}

func TestNginxIsMissing(t *testing.T) {
	_, err := startNginx(t.Context(), "no-such-nginx", t.TempDir())
	if err == nil || !strings.Contains(err.Error(), "apt-get install nginx-light") {
		t.Errorf("startNginx = %v, want an error that says what to install", err)
	}
}

func TestProfiles(t *testing.T) {
	before := costSoFar()
	p := profiles{dir: filepath.Join(t.TempDir(), "p")}
	for _, tenth := range []int{0, 1, 10} {
		if err := p.next(tenth); err != nil {
			t.Fatal(err)
		}
	}
	made, err := filepath.Glob(filepath.Join(p.dir, "*"))
	if err != nil || len(made) != 2 || filepath.Base(made[0]) != "tenth-1.pprof" || filepath.Base(made[1]) != "tenth-2.pprof" {
		t.Errorf("profiles of two tenths are %v, %v", made, err)
	}
	for looks := 0; costSoFar().less(before).CPU <= 0; looks++ { // the kernel counts in steps
		if looks == 1e6 {
			t.Fatal("nothing is told of the processor")
		}
	}
	if err := (&profiles{}).next(0); err != nil {
		t.Errorf("without a directory: %v", err)
	}
}
