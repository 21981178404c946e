package app

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"forebay/cmd/forebay/config"
)

// crowd is a policy with n of each: routes, streams, drains, sinks.
func crowd(sink string, n int) string {
	var b strings.Builder
	each := func(head, form string) {
		fmt.Fprintln(&b, head)
		for i := range n {
			fmt.Fprintln(&b, strings.NewReplacer("#", fmt.Sprint(i), "SINK", sink).Replace(form))
		}
	}
	b.WriteString("version: 1\nlimits: [{ name: callers, rate: 1000000/s, key: [client_ip, \"header:X-Customer\"] }]\n")
	each("sinks:", `  - { name: sink-#, http: { urls: ["SINK"] } }`)
	each("streams:", `  - { name: stream-# }`)
	each("drains:", `  - { name: drain-#, stream: stream-#, sink: sink-#, schedule: { base: 1000/s } }`)
	each("routes:", `  - { name: route-#, match: { methods: [POST], path_prefix: /v1/#/ }, limits: [callers], mode: buffer, stream: stream-# }`)
	return b.String()
}

// Series are bounded by the names in the policy: as many as may be, and nothing that
// callers send, adds one. When the names go the series go.
func TestSeriesOfTwoThousandNames(t *testing.T) {
	const each = 500
	s := newShop(t)
	one := start(t, crowd(s.url, 1))
	r := start(t, crowd(s.url, each))
	small, before := one.counted(t), r.counted(t)
	if perName := float64(before) / (4 * each); perName > float64(small)/4 || perName < 5 {
		t.Errorf("%d series for %d names, %.0f each; with four names there are %d", before, 4*each, perName, small)
	}
	for i := range 60 {
		r.unique(t, fmt.Sprintf("/v1/%d/order-%d?q=%d", i%3, i, i), i)
		r.unique(t, fmt.Sprintf("/nowhere/%d", i), i)
	}
	until(t, "the shop has them", func() bool { return len(s.got()) == 60 })
	if after := r.counted(t); after != before {
		t.Errorf("there were %d series; after requests that have nothing in common there are %d", before, after)
	}
	until(t, "the drains are done", func() bool { return r.metric(t, "forebay_stream_messages", "stream-2") == 0 })
	if err := os.WriteFile(r.policy, []byte(crowd(s.url, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Reload("test"); err != nil {
		t.Fatal(err)
	}
	if n := r.counted(t); n > small {
		t.Errorf("%d series after all names but four went, want %d", n, small)
	}
}

// counted is how many series of ours a scrape has.
func (r *running) counted(t *testing.T) (n int) {
	t.Helper()
	families, err := r.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "forebay_") {
			n += len(f.GetMetric())
		}
	}
	return n
}

// unique posts something that no two requests share.
func (r *running) unique(t *testing.T, path string, i int) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+r.Public()[0]+path, strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Customer", fmt.Sprint(i))
	req.Header.Set("Idempotency-Key", fmt.Sprint(i))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body) // only counted
}

// Whoever scrapes while the program starts, reloads and stops gets a whole page each time,
// or no connection.
func TestScrapesAllTheWhile(t *testing.T) {
	s := newShop(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	stop, ended := make(chan struct{}), make(chan []string, 2)
	var scraped atomic.Int64
	for range cap(ended) {
		go func() { ended <- scrapeUntil(stop, "http://"+addr+"/metrics", &scraped) }()
	}
	r := start(t, named(s.url, "one"), config.Flag{Setting: "listen.admin.address", Value: addr})
	for i := range 12 {
		if err := os.WriteFile(r.policy, []byte(named(s.url, []string{"two", "one"}[i%2])), 0o600); err != nil {
			t.Fatal(err)
		}
		before := scraped.Load()
		if _, err := r.Reload("test"); err != nil {
			t.Fatal(err)
		}
		until(t, "a page beside the reload", func() bool { return scraped.Load() > before })
	}
	r.cancel()
	if err := <-r.ended; err != nil {
		t.Error(err)
	}
	close(stop)
	pages := 0
	for range cap(ended) {
		for _, said := range <-ended {
			if pages++; said != "" {
				t.Error(said)
			}
		}
	}
	if pages < 12 {
		t.Errorf("%d pages were scraped: too few to say much", pages)
	}
}

// scrapeUntil says of each page what is wrong with it, and counts them.
func scrapeUntil(stop <-chan struct{}, url string, scraped *atomic.Int64) (said []string) {
	client := &http.Client{Timeout: 20 * time.Second}
	for {
		select {
		case <-stop:
			return said
		default:
		}
		resp, err := client.Get(url)
		if err != nil {
			continue // it does not listen yet, or any more
		}
		page, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		switch {
		case err != nil || resp.StatusCode != http.StatusOK:
			said = append(said, fmt.Sprintf("%s, %v: %.300s", resp.Status, err, page))
		case !strings.HasSuffix(string(page), "\n") || !strings.Contains(string(page), "forebay_build_info"):
			said = append(said, fmt.Sprintf("a page of %d bytes is not whole", len(page)))
		default:
			said = append(said, "")
		}
		scraped.Add(1)
	}
}
