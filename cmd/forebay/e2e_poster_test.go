package main_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"
)

// A post is one request: an order, or a batch of them.
type post struct {
	path     string
	body     []byte
	fields   map[string]string
	sums     []sum
	orders   []*order
	repeats  bool // it has a key: stored once, however often it is sent
	answered bool
}

// A poster is one caller. It posts the orders of its keys one after another.
type poster struct {
	*load
	name int
	rng  *rand.Rand
	sent int
	next map[string]int // key to the place of its next order
	old  []*post        // answered, the last of them
}

func (p *poster) run() {
	for p.turn(1) {
		r := p.compose()
		if !p.turn(len(r.orders) - 1) {
			return
		}
		for !p.send(r) && r.repeats {
			if !p.turn(1) {
				return
			}
		}
		if !r.answered {
			continue
		}
		if p.old = append(p.old, r); len(p.old) > 200 {
			p.old = p.old[1:]
		}
		earlier := p.old[p.rng.IntN(len(p.old))]
		switch chance := p.rng.IntN(20); {
		case chance > 1:
		case earlier.repeats:
			p.send(earlier)
		default:
			p.cancel(earlier.orders[0])
		}
	}
}

// turn waits for so many; false once the load has stopped.
func (p *poster) turn(n int) bool {
	for range n {
		if _, more := <-p.turns; !more {
			return false
		}
	}
	return true
}

func (p *poster) compose() *post {
	name := fmt.Sprintf("T-%d-%d", p.name, p.sent)
	switch {
	case p.name >= 8:
		r := &post{path: "/v1/batches", repeats: true, fields: map[string]string{
			"Content-Type": "application/x-ndjson", "Batch-Id": name, "Prefer": "return=representation",
		}}
		for range 2 + p.rng.IntN(30) {
			r.body = append(append(r.body, p.order(r)...), '\n')
		}
		return r
	case p.name >= 4:
		r := &post{path: "/v1/orders", repeats: true, fields: map[string]string{"Idempotency-Key": name}}
		r.body = p.order(r)
		return r
	}
	r := &post{path: "/v1/orders"}
	r.body = p.order(r)
	return r
}

// order adds a new one to the request and returns its body.
func (p *poster) order(r *post) []byte {
	o := &order{key: fmt.Sprintf("c-%d-%d", p.name, p.rng.IntN(8))}
	o.n, p.next[o.key] = p.next[o.key], p.next[o.key]+1
	_, rest, _ := bytes.Cut(p.orders[p.rng.IntN(len(p.orders))], []byte(`,`))
	pad := p.rng.IntN(4 << 10)
	from := p.rng.IntN(len(p.noise) - pad)
	body := fmt.Appendf(nil, `{"order_id":"T-%d-%d","customer":%q,"pad":%q,%s`, p.name, p.sent, o.key, p.noise[from:from+pad], rest)
	p.sent++
	r.sums, r.orders = append(r.sums, sha256.Sum256(body)), append(r.orders, o)
	return body
}

// send posts the request and takes down what it was promised; false unless that
// was a 202.
func (p *poster) send(r *post) bool {
	p.mu.Lock()
	public := p.public
	for i, s := range r.sums {
		if public != "" {
			p.posted[s] = r.orders[i]
		}
	}
	p.mu.Unlock()
	if public == "" {
		return false
	}
	got, err := p.c.send(http.MethodPost, public+r.path, r.body, r.fields)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		return false // nothing was promised: the program ended under the request
	}
	if got.status != http.StatusAccepted {
		p.refused++
		if got.status < 500 && got.status != http.StatusConflict {
			p.fault("%s answered %d %s", r.path, got.status, got.body)
		}
		return false
	}
	var said struct {
		ID  string
		IDs []string
	}
	if err := json.Unmarshal(got.body, &said); err != nil {
		p.fault("202 with %q: %v", got.body, err)
		return false
	}
	if len(said.IDs) == 0 {
		said.IDs = []string{said.ID}
	}
	p.promised(r, said.IDs, got.header.Get("Idempotent-Replayed") == "true")
	return true
}

// promised takes down the ids of an answer. The caller holds mu.
func (p *poster) promised(r *post, ids []string, replayed bool) {
	if len(ids) != len(r.orders) {
		p.fault("%d ids for %d messages", len(ids), len(r.orders))
		return
	}
	if r.answered {
		p.again++
		if !replayed {
			p.fault("%s was sent again and taken for new", r.orders[0].id)
		}
	}
	r.answered = true
	for i, o := range r.orders {
		switch other := p.ids[ids[i]]; {
		case o.id == ids[i]:
			continue
		case o.id != "":
			p.fault("%s was answered %s when it was sent again", o.id, ids[i])
		case other != nil:
			p.fault("id %s was given out twice", ids[i])
		}
		o.id, p.ids[ids[i]] = ids[i], o
		p.acked.Add(1)
		if len(ids) > 1 {
			p.inBatches++
		}
	}
}

// cancel asks for it once, by receipt.
func (p *poster) cancel(o *order) {
	p.mu.Lock()
	public := p.public
	skip := public == "" || o.cancelAsked
	if !skip {
		o.cancelAsked = true
	}
	p.mu.Unlock()
	if skip {
		return
	}
	got, err := p.c.do(http.MethodDelete, public+"/.forebay/receipts/"+o.id, nil)
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	var rec receipt
	switch {
	case err != nil || got.status >= 500:
		return
	case got.status == http.StatusConflict:
	case got.status != http.StatusOK || json.Unmarshal(got.body, &rec) != nil:
		p.fault("DELETE of %s = %d %s", o.id, got.status, got.body)
	}
	o.cancelTold, o.cancelled = true, make(map[string]time.Time)
	for _, d := range rec.Drains {
		if d.State == "cancelled" {
			o.cancelled[d.Drain] = now
			p.cancels++
		}
	}
}
