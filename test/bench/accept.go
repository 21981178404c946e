package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
)

// accept measures unary requests, each on disk before its 202.
func accept(ctx context.Context, o options) error {
	orders, err := readOrders(o.orders)
	if err != nil {
		return err
	}
	fmt.Printf("%d connections, %d rounds of %v each, %d real orders of %d bytes in the mean as bodies\n\n",
		o.connections, o.rounds, o.measure, len(orders), meanLength(orders))
	all := inTurn(orders, o.connections)
	json := func(addr string) target { return httpTarget(addr, "application/json") }
	sides := []side{
		{"bare", func(string) (*process, error) { return startBare() }, json, all},
		{"forebay", func(dir string) (*process, error) { return startForebay(o.forebay, dir, buffering("")) }, json, all},
		{"nats", startNATS, natsTarget, all},
	}
	rounds, err := measured(ctx, o, sides)
	if err != nil {
		return err
	}
	report(os.Stdout, sides, rounds, 1)
	ratios(os.Stdout, "forebay / bare", rounds[1], rounds[0])
	ratios(os.Stdout, "forebay / nats", rounds[1], rounds[2])
	written(os.Stdout, rounds[1])
	return nil
}

// inTurn has every connection begin at another order.
func inTurn(orders [][]byte, connections int) bodies {
	return func(id int) func() []byte {
		next := id * len(orders) / connections
		return func() []byte {
			b := orders[next%len(orders)]
			next++
			return b
		}
	}
}

func readOrders(path string) ([][]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	orders := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	if len(orders[0]) == 0 {
		return nil, fmt.Errorf("%s has no orders", path)
	}
	return orders, nil
}

func meanLength(bodies [][]byte) int {
	n := 0
	for _, b := range bodies {
		n += len(b)
	}
	return n / len(bodies)
}
