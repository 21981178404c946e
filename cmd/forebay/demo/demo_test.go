package demo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"forebay/cmd/forebay/admin"
)

// TestRun is the demo as it is, with few orders and a fast service.
func TestRun(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	var out bytes.Buffer
	if err := Run(t.Context(), Options{Orders: 600, Speed: 5, Out: &out}); err != nil {
		t.Fatalf("Run = %v\n%s", err, &out)
	}
	for _, want := range []string{
		"600 orders", "They are 512 real ones", "accepted                600 orders", "delivered             600 orders",
		"imbalance                 0 orders", "duplicates                0 orders", "byte for byte: 600 of 600", "balances",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the output has no %q:\n%s", want, &out)
		}
	}
	for line := range strings.Lines(out.String()) {
		if n := len([]rune(strings.TrimRight(line, "\n"))); n > 80 {
			t.Errorf("a line of %d columns: %s", n, line)
		}
		if strings.Contains(line, "\x1b") {
			t.Errorf("an escape sequence without a terminal: %q", line)
		}
	}
	left, err := filepath.Glob(filepath.Join(os.TempDir(), "forebay-demo-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestRunOnTerminal(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	var out bytes.Buffer
	if err := Run(t.Context(), Options{Orders: 20, Speed: 10, Keep: true, Out: &out, Terminal: true, Color: true, Width: 80}); err != nil {
		t.Fatalf("Run = %v\n%s", err, &out)
	}
	for _, want := range []string{hideCursor, showCursor, "\x1b[5A", "█", "Kept in "} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the output has no %q:\n%q", want, &out)
		}
	}
	kept, err := filepath.Glob(filepath.Join(os.TempDir(), "forebay-demo-*", "policy.yaml"))
	if err != nil || len(kept) != 1 {
		t.Errorf("kept: %v, %v, want one policy", kept, err)
	}
}

func TestRunStops(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Run(ctx, Options{Orders: 512, Speed: 1, Out: new(bytes.Buffer)}); !errors.Is(err, errStopped) {
		t.Errorf("Run with a context that is done = %v, want %v", err, errStopped)
	}
}

func TestOrders(t *testing.T) {
	o := newOrders(1030)
	ids := map[string]bool{}
	for i := range o.n {
		var order struct {
			ID    string `json:"order_id"`
			Items []any  `json:"items"`
		}
		if err := json.Unmarshal(o.body(i), &order); err != nil {
			t.Fatalf("order %d: %v", i, err)
		}
		if order.ID == "" || ids[order.ID] || len(order.Items) == 0 {
			t.Errorf("order %d has id %q and %d items, want an id of its own and some", i, order.ID, len(order.Items))
		}
		ids[order.ID] = true
	}
	if len(o.real) != DefaultOrders {
		t.Errorf("%d real orders, want %d", len(o.real), DefaultOrders)
	}
}

// post sends one order to the service by itself.
func post(s *service, body string) int {
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/v1/orders", strings.NewReader(body)))
	return w.Code
}

func TestServiceKeepsUp(t *testing.T) {
	for _, speed := range []float64{0.1, 1, 10} {
		synctest.Test(t, func(t *testing.T) {
			limit := baseLimit * speed
			s := newService(limit)
			var wg sync.WaitGroup
			n := int(3 * limit)
			for range n {
				wg.Go(func() {
					if got := post(s, "x"); got != http.StatusCreated {
						t.Errorf("at its limit of %v/s the service answered %d, want 201", limit, got)
					}
				})
				<-time.After(time.Duration(float64(time.Second) / limit))
			}
			wg.Wait()
			if r := s.record(); r.attempts != n || r.refused != 0 || r.peak > int(limit)+1 {
				t.Errorf("record = %+v, want %d attempts, none refused, at most %v in a second", r, n, limit+1)
			}
		})
	}
}

func TestServiceTurnsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(baseLimit)
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() { post(s, "x") })
		}
		wg.Wait()
		if r := s.record(); r.refused != 100-18 || r.taken[sha256.Sum256([]byte("x"))] != 18 || r.peak != 100 {
			t.Errorf("record of 100 at once = %+v, want 18 taken and the rest refused", r)
		}
	})
}

func TestPeak(t *testing.T) {
	ms := time.Millisecond
	tests := []struct {
		name     string
		arrivals []time.Duration
		want     int
	}{
		{"none", nil, 0},
		{"one", []time.Duration{0}, 1},
		{"a second apart", []time.Duration{0, 1000 * ms, 2000 * ms}, 1},
		{"just under", []time.Duration{0, 999 * ms, 1998 * ms}, 2},
		{"out of order", []time.Duration{1500 * ms, 0, 600 * ms, 1400 * ms}, 3},
	}
	for _, tt := range tests {
		if got := peak(tt.arrivals); got != tt.want {
			t.Errorf("%s: peak(%v) = %d, want %d", tt.name, tt.arrivals, got, tt.want)
		}
	}
}

// good is a run of two orders in which everything holds.
func good() (orders, outcome, outcome) {
	o := newOrders(2)
	taken := map[[sha256.Size]byte]int{sha256.Sum256(o.body(0)): 1, sha256.Sum256(o.body(1)): 1}
	with := outcome{
		answered: 2, limit: 120, saw: record{attempts: 2, peak: 2, taken: taken},
		books: books{Account: admin.Account{Accepted: 2, Delivered: 2}, balanced: true},
	}
	return o, with, outcome{limit: 120}
}

func TestSheet(t *testing.T) {
	tests := []struct {
		name   string
		change func(o orders, with *outcome)
		holds  bool
	}{
		{"good", func(orders, *outcome) {}, true},
		{"a duplicate is told, not hidden", func(o orders, with *outcome) { with.saw.taken[sha256.Sum256(o.body(0))] = 2 }, true},
		{"one refused", func(_ orders, with *outcome) { with.failed = 1; with.books.Accepted = 1 }, false},
		{"one lost", func(o orders, with *outcome) { delete(with.saw.taken, sha256.Sum256(o.body(1))) }, false},
		{"one changed", func(o orders, with *outcome) {
			delete(with.saw.taken, sha256.Sum256(o.body(1)))
			with.saw.taken[sha256.Sum256([]byte("else"))] = 1
		}, false},
		{"one invented", func(_ orders, with *outcome) { with.saw.taken[sha256.Sum256([]byte("else"))] = 1 }, false},
		{"over the limit", func(_ orders, with *outcome) { with.saw.peak = 121 }, false},
		{"still buffered", func(_ orders, with *outcome) { with.books.Buffered = 1 }, false},
		{"imbalance", func(_ orders, with *outcome) { with.books.balanced = false }, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o, with, without := good()
			tt.change(o, &with)
			s := newSheet(o, with, without)
			if s.holds() != tt.holds {
				t.Errorf("holds = %v, want %v: %+v", s.holds(), tt.holds, s.checks())
			}
			var out bytes.Buffer
			s.print(&screen{w: &out, width: 80})
			if strings.Contains(out.String(), "✗") == tt.holds {
				t.Errorf("the sheet shows otherwise:\n%s", &out)
			}
		})
	}
}

func TestBar(t *testing.T) {
	s := &screen{width: 56}
	same := func(text string) string { return text }
	tests := []struct {
		share float64
		want  string
	}{
		{0, "··········"},
		{0.001, "▏·········"},
		{0.5, "█████·····"},
		{0.55, "█████▌····"},
		{1, "██████████"},
		{7, "██████████"},
		{-1, "··········"},
	}
	for _, tt := range tests {
		if diff := cmp.Diff(tt.want, s.bar(tt.share, same)); diff != "" {
			t.Errorf("bar(%v) (-want +got):\n%s", tt.share, diff)
		}
	}
}

func TestThousands(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1000: "-1,000"} {
		if got := thousands(n); got != want {
			t.Errorf("thousands(%d) = %q, want %q", n, got, want)
		}
	}
}
