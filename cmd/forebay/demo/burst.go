package demo

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// burst posts every order once, as fast as its connections take them. No
// caller tries again: whom the sale turns away has gone.
type burst struct {
	orders  orders
	callers int // how many connections
	url     string
	good    int // the status that means success

	ok, failed atomic.Int64
	firstError atomic.Pointer[string]
}

// run returns when every order was answered, or ctx is done.
func (b *burst) run(ctx context.Context) time.Duration {
	tr := &http.Transport{MaxConnsPerHost: b.callers, MaxIdleConnsPerHost: b.callers}
	defer tr.CloseIdleConnections()
	client := &http.Client{Transport: tr, Timeout: 10 * time.Second}
	start := time.Now()
	var next atomic.Int64
	var callers sync.WaitGroup
	for range b.callers {
		callers.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= b.orders.n {
					return
				}
				b.count(b.post(ctx, client, b.orders.body(i)))
			}
		})
	}
	callers.Wait()
	return time.Since(start)
}

func (b *burst) post(ctx context.Context, client *http.Client, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, b.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return err
	}
	if resp.StatusCode != b.good {
		return fmt.Errorf("status %d: %s", resp.StatusCode, bytes.TrimSpace(answer))
	}
	return nil
}

func (b *burst) count(err error) {
	if err == nil {
		b.ok.Add(1)
		return
	}
	b.failed.Add(1)
	text := err.Error()
	b.firstError.CompareAndSwap(nil, &text)
}

// answered is how many orders have their answer, good or bad.
func (b *burst) answered() int { return int(b.ok.Load() + b.failed.Load()) }
