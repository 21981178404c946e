package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"forebay/cmd/forebay/admin"
	"forebay/limiter"
)

var update = flag.Bool("update", false, "write the frames of top anew")

// saleNight is a view of four drains and three streams.
func saleNight() topView {
	now := time.Date(2027, 11, 11, 20, 1, 30, 0, time.UTC)
	at := func(d time.Duration) admin.Time { return admin.Time{Time: now.Add(d)} }
	v := topView{now: now, url: "http://127.0.0.1:9080", every: 2 * time.Second}
	first := topReading{at: now.Add(-2 * time.Second), streams: []admin.Stream{{Name: "orders", AcceptedTotal: 1_000_000}, {Name: "logs", AcceptedTotal: 50}}}
	v.take(first)
	v.take(topReading{
		at: now,
		drains: []admin.Drain{
			{Name: "logs-to-a-search-cluster-with-a-long-name", Sink: "search", State: "running", Pending: 12, ActualRate: 9876, PermittedRate: admin.Rate(limiter.Unlimited), Binding: "unlimited", EmptyAt: at(time.Second)},
			{Name: "orders-to-analytics", Sink: "analytics", State: "paused", Pending: 1_240_000, ActualRate: 0, PermittedRate: 0, Binding: "paused", Dead: 3},
			{Name: "orders-to-service", Sink: "order-service", State: "running", Pending: 1_239_900, InFlight: 64, Scheduled: 40, ActualRate: 118.2, PermittedRate: 120, Binding: "schedule", EmptyAt: at(2*time.Hour + 52*time.Minute), NextChange: &admin.Change{At: at(4 * time.Hour), Rate: 600}},
			{Name: "audit", Sink: "audit-archive", State: "idle", ActualRate: 0, PermittedRate: 0.05, Binding: "empty"},
		},
		streams: []admin.Stream{
			{Name: "audit", State: "closed", CapacityBytes: 1 << 30},
			{Name: "logs", State: "open", Messages: 12, Bytes: 900, AcceptedTotal: 20_050, OldestAcceptedAt: at(-time.Second)},
			{Name: "orders", State: "open", Messages: 1_240_004, Bytes: 640 << 20, CapacityBytes: 20 << 30, AcceptedTotal: 1_005_000, FullAt: at(95 * time.Minute), OldestAcceptedAt: at(-17 * time.Minute)},
		},
	})
	return v
}

func TestTopFrames(t *testing.T) {
	for _, size := range []struct {
		name          string
		width, height int
	}{{"80x24", 80, 24}, {"120x30", 120, 30}, {"160x24", 160, 24}, {"80x10", 80, 10}, {"once", 80, 0}} {
		lines, _ := saleNight().frame(size.width, size.height)
		if size.height > 0 && len(lines) != size.height {
			t.Errorf("%s: %d lines", size.name, len(lines))
		}
		for _, line := range lines {
			if utf8.RuneCountInString(line) > size.width {
				t.Errorf("%s: %q is too long", size.name, line)
			}
		}
		got := strings.Join(lines, "\n") + "\n"
		path := filepath.Join("testdata", "top", size.name+".txt")
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", size.name, diff)
		}
	}
}

// However small a terminal is, it gets a frame that fits.
func TestTopFits(t *testing.T) {
	for _, width := range []int{1, 10, 40, 80, 300} {
		for height := 1; height < 12; height++ {
			lines, _ := saleNight().frame(width, height)
			if len(lines) != height {
				t.Errorf("%dx%d: %d lines", width, height, len(lines))
			}
			for _, line := range lines {
				if utf8.RuneCountInString(line) > width {
					t.Errorf("%dx%d: %q is too long", width, height, line)
				}
			}
		}
	}
}

// Of 2,000 names every one is on one page, the longest backlog on the first.
func TestTopPages(t *testing.T) {
	v := topView{readAt: time.Unix(1, 0), now: time.Unix(2, 0)}
	for i := range 1000 {
		v.drains = append(v.drains, admin.Drain{Name: fmt.Sprintf("d-%03d", i), Pending: uint64(i * 7 % 1000)})
		v.streams = append(v.streams, admin.Stream{Name: fmt.Sprintf("s-%03d", i), Messages: uint64(i)})
	}
	_, pages := v.frame(80, 120)
	seen := map[string]int{}
	for v.page = range pages {
		lines, _ := v.frame(80, 120)
		for _, line := range lines {
			if name, _, _ := strings.Cut(line, " "); strings.HasPrefix(name, "d-") || strings.HasPrefix(name, "s-") {
				seen[name]++
			}
		}
	}
	if len(seen) != 2000 {
		t.Errorf("%d names on %d pages, want 2000", len(seen), pages)
	}
	for name, n := range seen {
		if n != 1 {
			t.Errorf("%s is shown %d times", name, n)
		}
	}
	v.page = 0
	if lines, _ := v.frame(80, 24); !strings.HasPrefix(lines[4], "d-857 ") || !strings.HasPrefix(lines[23], "page 1 of ") {
		t.Errorf("the first page begins with %q and ends with %q", lines[4], lines[23])
	}
}

func TestTopKeys(t *testing.T) {
	v := topView{}
	for _, step := range []struct {
		key  string
		page int
		on   bool
	}{{"n", 1, true}, {" ", 2, true}, {"n", 2, true}, {"p", 1, true}, {"\x1b[6~", 2, true}, {"s", 0, true}, {"p", 0, true}, {"x", 0, true}, {"q", 0, false}, {"\x03", 0, false}} {
		if on := v.press(step.key, 3); on != step.on || v.page != step.page {
			t.Errorf("key %q: page %d, on %v, want %d, %v", step.key, v.page, on, step.page, step.on)
		}
	}
}

// A server that is gone is said to be, what it said last stays, and it comes back.
func TestTopTrouble(t *testing.T) {
	v := topView{now: time.Unix(100, 0)}
	line := func() string {
		lines, _ := v.frame(80, 24)
		return lines[1]
	}
	if got := line(); got != "reading …" {
		t.Errorf("at first it says %q", got)
	}
	v.take(topReading{at: time.Unix(90, 0), err: errors.New("cannot reach it")})
	if got := line(); got != "NOTHING READ YET: cannot reach it" {
		t.Errorf("without a server it says %q", got)
	}
	v.take(topReading{at: time.Unix(95, 0), streams: []admin.Stream{{Name: "orders", AcceptedTotal: 500}}})
	v.take(topReading{at: time.Unix(99, 0), err: errors.New("cannot reach it")})
	if got := line(); got != "FROM 5S AGO: cannot reach it" || len(v.streams) != 1 {
		t.Errorf("when it is gone it says %q of %v", got, v.streams)
	}
	v.take(topReading{at: time.Unix(100, 0), streams: []admin.Stream{{Name: "orders", AcceptedTotal: 5}}})
	if got := line(); got != "1 stream, 0 drains   in 0/s, out 0/s   waiting 0, dead 0" || v.arriving("orders") != "-" {
		t.Errorf("when it is back it says %q, and %s arrive", got, v.arriving("orders"))
	}
}

func TestCompact(t *testing.T) {
	for n, want := range map[uint64]string{
		0: "0", 999: "999", 1000: "1,000", 99_999: "99,999", 100_000: "100k", 999_499: "999k",
		999_500: "1.0M", 1_240_004: "1.2M", 99_949_999: "99.9M", 99_950_000: "100M", 1_000_000_000: "1.0G", 2_500_000_000_000: "2.5T",
	} {
		if got := compact(n); got != want {
			t.Errorf("compact(%d) = %q, want %q", n, got, want)
		}
	}
}
