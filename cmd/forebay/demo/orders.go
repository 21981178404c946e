package demo

import (
	"bytes"
	_ "embed"
	"strconv"
)

//go:embed orders.ndjson
var ordersFile []byte

// orders are the bodies to post. Past the last real order they start over,
// each with an id that no other order has.
type orders struct {
	real [][]byte
	n    int
}

func newOrders(n int) orders {
	return orders{real: bytes.Split(bytes.TrimSpace(ordersFile), []byte("\n")), n: n}
}

// body returns order i. The caller may not change it.
func (o orders) body(i int) []byte {
	real := o.real[i%len(o.real)]
	round := i / len(o.real)
	if round == 0 {
		return real
	}
	// The first member of every order is its id: {"order_id":"536365", …
	const before = `{"order_id":"`
	end := len(before) + bytes.IndexByte(real[len(before):], '"')
	out := make([]byte, 0, len(real)+8)
	out = append(out, real[:end]...)
	out = append(out, '-')
	out = strconv.AppendInt(out, int64(round+1), 10)
	return append(out, real[end:]...)
}

// bytes is the size of all bodies.
func (o orders) bytes() int64 {
	var sum int64
	for i := range o.n {
		sum += int64(len(o.body(i)))
	}
	return sum
}

// repeated reports whether there are more orders than real ones.
func (o orders) repeated() bool { return o.n > len(o.real) }
