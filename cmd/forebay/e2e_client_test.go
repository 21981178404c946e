package main_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// realOrders returns the 512 orders that the demo carries, one JSON document each.
func realOrders(t *testing.T) [][]byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("demo", "orders.ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	orders := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	if len(orders) != 512 {
		t.Fatalf("%d orders, want 512", len(orders))
	}
	return orders
}

// A caller posts orders over connections of its own.
type caller struct{ http.Client }

func newCaller(t *testing.T, connections int) *caller {
	tr := &http.Transport{MaxConnsPerHost: connections, MaxIdleConnsPerHost: connections}
	t.Cleanup(tr.CloseIdleConnections)
	return &caller{http.Client{Transport: tr, Timeout: 15 * time.Second}}
}

// A reply is what came back: status, header and the body read to its end.
type reply struct {
	status int
	header http.Header
	body   []byte
}

func (c *caller) do(method, url string, body []byte) (reply, error) {
	return c.send(method, url, body, nil)
}

// send is do with header fields.
func (c *caller) send(method, url string, body []byte, fields map[string]string) (reply, error) {
	req, err := http.NewRequest(method, url, bytes.NewReader(body))
	if err != nil {
		return reply{}, err
	}
	if len(body) > 0 {
		req.Header.Set("Content-Type", "application/json")
	}
	for name, value := range fields {
		req.Header.Set(name, value)
	}
	resp, err := c.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	return reply{status: resp.StatusCode, header: resp.Header, body: got}, err
}

// A receipt holds the fields of a receipt that these tests look at.
type receipt struct {
	ID         string     `json:"id"`
	Stream     string     `json:"stream"`
	State      string     `json:"state"`
	Position   *int64     `json:"position"`
	ETA        *time.Time `json:"eta"`
	AcceptedAt time.Time  `json:"accepted_at"`
	Drains     []struct {
		Drain     string `json:"drain"`
		State     string `json:"state"`
		Attempts  int    `json:"attempts"`
		LastError string `json:"last_error"`
	} `json:"drains"`
}

// post sends one order and returns its receipt; anything but a sound 202 is an error.
func (c *caller) post(public string, order []byte) (receipt, error) {
	r, err := c.do(http.MethodPost, public+"/v1/orders", order)
	if err != nil {
		return receipt{}, err
	}
	if r.status != http.StatusAccepted {
		return receipt{}, fmt.Errorf("status %d, want 202: %s", r.status, r.body)
	}
	var rec receipt
	if err := json.Unmarshal(r.body, &rec); err != nil {
		return receipt{}, fmt.Errorf("receipt %q: %w", r.body, err)
	}
	if want := "/.forebay/receipts/" + rec.ID; len(rec.ID) != 26 || r.header.Get("Location") != want {
		return receipt{}, fmt.Errorf("id %q, Location %q, want 26 characters and %q", rec.ID, r.header.Get("Location"), want)
	}
	if s, err := strconv.Atoi(r.header.Get("Retry-After")); err != nil || s < 1 || s > 300 {
		return receipt{}, fmt.Errorf("answered Retry-After %q, want 1 to 300", r.header.Get("Retry-After"))
	}
	return rec, nil
}

// postAll sends all orders over that many connections. Every one has to be
// answered 202. The receipts are in the order of the orders.
func postAll(t *testing.T, public string, orders [][]byte, connections int) []receipt {
	t.Helper()
	c := newCaller(t, connections)
	receipts := make([]receipt, len(orders))
	errs := make([]error, len(orders))
	next := make(chan int)
	var wg sync.WaitGroup
	for range connections {
		wg.Go(func() {
			for i := range next {
				receipts[i], errs[i] = c.post(public, orders[i])
			}
		})
	}
	for i := range orders {
		next <- i
	}
	close(next)
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			t.Fatalf("order %d: %v", i, err)
		}
	}
	return receipts
}

// getReceipt reads a receipt that has to be there.
func getReceipt(t *testing.T, c *caller, public, id string) receipt {
	t.Helper()
	r, err := c.do(http.MethodGet, public+"/.forebay/receipts/"+id, nil)
	if err != nil || r.status != http.StatusOK {
		t.Fatalf("GET receipt %s = %d, %v: %s", id, r.status, err, r.body)
	}
	var rec receipt
	if err := json.Unmarshal(r.body, &rec); err != nil {
		t.Fatalf("receipt %q: %v", r.body, err)
	}
	return rec
}

// An account is one line of the audit.
type account struct {
	Stream    string `json:"stream"`
	Drain     string `json:"drain"`
	Accepted  int    `json:"accepted"`
	Delivered int    `json:"delivered"`
	Expired   int    `json:"expired"`
	Cancelled int    `json:"cancelled"`
	Dead      int    `json:"dead"`
	Buffered  int    `json:"buffered"`
	Imbalance int    `json:"imbalance"`
}

// audit returns the account of the tests' one drain.
func audit(t *testing.T, srv *server) account {
	t.Helper()
	got := audits(t, srv)
	if len(got) != 1 {
		t.Fatalf("forebay audit = %+v, want one drain", got)
	}
	return got[0]
}

// accountOf returns the account of one drain of several.
func accountOf(t *testing.T, srv *server, drain string) account {
	t.Helper()
	all := audits(t, srv)
	i := slices.IndexFunc(all, func(a account) bool { return a.Drain == drain })
	if i < 0 {
		t.Fatalf("forebay audit = %+v, want %s among them", all, drain)
	}
	return all[i]
}

// audits runs `forebay audit`, which has to find a balance.
func audits(t *testing.T, srv *server) []account {
	t.Helper()
	stdout, stderr, code := command(t, "audit", "-o", "json", "--admin-url", srv.admin)
	if code != 0 {
		t.Fatalf("forebay audit: exit %d, want 0\n%s%s", code, stdout, stderr)
	}
	var got struct {
		Balanced bool      `json:"balanced"`
		Drains   []account `json:"drains"`
	}
	if err := json.Unmarshal([]byte(stdout), &got); err != nil {
		t.Fatalf("forebay audit printed %q: %v", stdout, err)
	}
	if !got.Balanced {
		t.Fatalf("forebay audit = %+v, want a balance", got)
	}
	return got.Drains
}

// settle waits until nothing is buffered any more and returns the account.
func settle(t *testing.T, srv *server, within time.Duration) account {
	t.Helper()
	var last account
	until(t, within, "nothing buffered", func() bool {
		last = audit(t, srv)
		return last.Buffered == 0
	})
	return last
}

// wantOnce fails the test unless the sink saw each order exactly once, byte for
// byte, under the id of its receipt.
func wantOnce(t *testing.T, log []arrival, orders [][]byte, receipts []receipt) {
	t.Helper()
	want := make(map[string]sum, len(orders))
	for i, r := range receipts {
		if _, twice := want[r.ID]; twice {
			t.Errorf("id %s was given out twice", r.ID)
		}
		want[r.ID] = sha256.Sum256(orders[i])
	}
	seen := make(map[string]int, len(log))
	for _, a := range log {
		body, known := want[a.ID]
		switch {
		case !known:
			t.Errorf("the sink saw Forebay-Id %q, which no receipt has", a.ID)
		case a.Sum != body:
			t.Errorf("the body of %s differs from what was posted", a.ID)
		}
		seen[a.ID]++
	}
	for i, r := range receipts {
		if seen[r.ID] != 1 {
			t.Errorf("order %d (%s) reached the sink %d times, want once", i, r.ID, seen[r.ID])
		}
	}
}

// metric reads one sample from /metrics by its exact name and labels.
func metric(t *testing.T, srv *server, series string) (float64, bool) {
	t.Helper()
	text := metrics(t, srv)
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, series+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
			if err != nil {
				t.Fatalf("sample %q: %v", line, err)
			}
			return v, true
		}
	}
	return 0, false
}

func metrics(t *testing.T, srv *server) string {
	t.Helper()
	r, err := newCaller(t, 1).do(http.MethodGet, srv.admin+"/metrics", nil)
	if err != nil || r.status != http.StatusOK {
		t.Fatalf("GET /metrics = %d, %v", r.status, err)
	}
	return string(r.body)
}
