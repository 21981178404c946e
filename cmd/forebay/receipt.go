package main

import (
	"fmt"
	"io"
	"time"

	"forebay/cmd/forebay/admin"
)

// receipt is what the table form shows of a receipt.
type receipt struct {
	ID         string         `json:"id"`
	Stream     string         `json:"stream"`
	State      string         `json:"state"`
	Position   *uint64        `json:"position"`
	ETA        admin.Time     `json:"eta"`
	ETANote    string         `json:"eta_note"`
	AcceptedAt admin.Time     `json:"accepted_at"`
	Drains     []receiptDrain `json:"drains"`
}

type receiptDrain struct {
	Drain     string     `json:"drain"`
	State     string     `json:"state"`
	Position  *uint64    `json:"position"`
	ETA       admin.Time `json:"eta"`
	Attempts  int        `json:"attempts"`
	LastError string     `json:"last_error"`
}

func printReceipt(w io.Writer, r receipt) {
	now := time.Now()
	fmt.Fprintf(w, "id        %s\n", r.ID)
	fmt.Fprintf(w, "stream    %s\n", r.Stream)
	fmt.Fprintf(w, "state     %s\n", r.State)
	fmt.Fprintf(w, "accepted  %s (%s)\n", r.AcceptedAt.UTC().Format(time.RFC3339), ago(now, r.AcceptedAt.Time))
	if r.ETANote != "" {
		fmt.Fprintf(w, "eta       none: %s\n", r.ETANote)
	}
	fmt.Fprintln(w)
	t := table{head: []string{"DRAIN", "STATE", ">MESSAGES AHEAD", ">ETA", ">ATTEMPTS", "LAST ERROR"}}
	for _, d := range r.Drains {
		ahead := "-"
		if d.Position != nil {
			ahead = number(*d.Position)
		}
		t.add(d.Drain, d.State, ahead, until(now, d.ETA.Time), fmt.Sprint(d.Attempts), d.LastError)
	}
	t.write(w)
}
