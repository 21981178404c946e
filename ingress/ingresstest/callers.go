package ingresstest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"
)

// Callers post orders of few customers, several at a time for each, one after another
// each. What has no answer, or one that asks to come again, is sent again with its
// idempotency key.
type Callers struct {
	History *History
	// URL is where orders are posted at the moment.
	URL       func() string
	Customers int
	Each      int           // callers of a customer
	Rest      time.Duration // of each between two requests, at most
	Seed      uint64
}

// pause is between two times that a request is sent.
const pause = 5 * time.Millisecond

// Run posts until ctx is done, and then until what was begun is answered, or cannot be
// any more because end is done.
func (c *Callers) Run(ctx, end context.Context) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: c.Customers * c.Each}}
	defer client.CloseIdleConnections()
	var wg sync.WaitGroup
	for customer := range c.Customers {
		for caller := range c.Each {
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(c.Seed, uint64(customer<<8+caller)))
				for n := 0; ctx.Err() == nil; n++ {
					// Long enough for what is stored to be delivered, at times.
					<-time.After(time.Duration(rng.Int64N(int64(c.Rest + 1))))
					key := fmt.Sprint("customer-", customer)
					c.one(end, client, rng, Request{Key: key, ID: fmt.Sprintf("%s/%d/%d", key, caller, n)})
				}
			})
		}
	}
	wg.Wait()
}

// one sends a request until its fate is known, or cannot be.
func (c *Callers) one(ctx context.Context, client *http.Client, rng *rand.Rand, r Request) {
	keyed := rng.IntN(4) > 0
	header := http.Header{"Content-Type": {"application/json"}}
	if keyed {
		header.Set("Idempotency-Key", r.ID)
	}
	switch rng.IntN(20) {
	case 0:
		header.Set("Prefer", "respond-async")
	case 1:
		header.Set("Prefer", "wait=1")
	}
	r.Sent = c.History.Now()
	for ctx.Err() == nil {
		status := c.post(ctx, client, header, r)
		if 200 <= status && status < 300 {
			r.Taken, r.Stored = true, status == http.StatusAccepted
			break
		}
		if !keyed && status != http.StatusServiceUnavailable {
			break // it may have been carried out: sent again it would be another one
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
	c.History.answered(r)
}

// post returns the status of the answer; 0: there was none.
func (c *Callers) post(ctx context.Context, client *http.Client, header http.Header, r Request) int {
	body := fmt.Appendf(nil, `{"customer":%q,"id":%q}`, r.Key, r.ID)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.URL()+"/v1/orders", bytes.NewReader(body))
	if err != nil {
		return 0
	}
	req.Header = header.Clone()
	resp, err := client.Do(req)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return 0
	}
	return resp.StatusCode
}
