package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"forebay/cmd/forebay/admin"
)

func newReceipts() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "receipts",
		Short: "Find or cancel one message by its receipt",
		Args:  cobra.ArbitraryArgs,
		RunE:  group,
	}
	get := &cobra.Command{
		Use:     "get ID",
		Short:   "Show where a message stands",
		Example: "  forebay receipts get 6tmt2yvljfhk3k4ra5yb3rsx7a",
		Args:    exactly("ID"),
	}
	c, out := clientFlags(get), formatFlag(get)
	get.RunE = func(cmd *cobra.Command, args []string) error {
		return show(cmd, c, *out, receiptPath(args[0]), printReceipt)
	}
	cmd.AddCommand(get, newReceiptsCancel())
	return cmd
}

func newReceiptsCancel() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cancel (ID | --stream S --key K)",
		Short: "Cancel what still waits: one message, or all with a cancel key; returns once that is on disk",
		Example: `  forebay receipts cancel 6tmt2yvljfhk3k4ra5yb3rsx7a
  forebay receipts cancel --stream orders --key 17850 --reason 'fraud'`,
		Args: cobra.ArbitraryArgs,
	}
	c, out := clientFlags(cmd), formatFlag(cmd)
	stream := cmd.Flags().String("stream", "", "cancel in stream `S`")
	key := cmd.Flags().String("key", "", "cancel the messages with cancel key `K`; where the stream has no cancel_key, its ordering key")
	reason := cmd.Flags().String("reason", "", "`WHY`, for the operator log")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *stream != "" || *key != "" {
			return cancelKey(cmd, c, *out, args, *stream, admin.Act{Key: *key, Reason: *reason})
		}
		if err := exactly("ID")(cmd, args); err != nil {
			return err
		}
		var r receipt
		raw, err := c.do(cmd.Context(), http.MethodDelete, receiptPath(args[0]), nil, &r)
		if err != nil {
			return err
		}
		return printAs(cmd.OutOrStdout(), *out, raw, r, printReceipt)
	}
	return cmd
}

func cancelKey(cmd *cobra.Command, c *client, out format, args []string, stream string, a admin.Act) error {
	if len(args) > 0 || stream == "" || a.Key == "" {
		return usageError{errors.New("give an ID, or --stream and --key"), "run 'forebay receipts cancel --help'"}
	}
	return actAs(cmd, c, out, http.MethodPost, "/streams/"+url.PathEscape(stream)+"/cancel", a, printCancelled)
}

func receiptPath(id string) string { return "/api/v1/receipts/" + url.PathEscape(id) }

func newMessages() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "messages",
		Short: "Find messages by their keys",
		Args:  cobra.ArbitraryArgs,
		RunE:  group,
	}
	find := &cobra.Command{
		Use:   "find --stream S (--key K | --idempotency-key K)",
		Short: "Where is this order: the receipts of an ordering key's unfinished messages, or of what one request stored",
		Example: `  forebay messages find --stream orders --key 17850
  forebay messages find --stream orders --idempotency-key order-536365`,
		Args: exactly(),
	}
	c, out := clientFlags(find), formatFlag(find)
	stream := find.Flags().String("stream", "", "look in stream `S`")
	key := find.Flags().String("key", "", "look for the unfinished messages of ordering key `K`")
	once := find.Flags().String("idempotency-key", "", "look for what was sent with idempotency key `K`, finished or not")
	find.RunE = func(cmd *cobra.Command, _ []string) error {
		if *stream == "" || (*key == "") == (*once == "") {
			return usageError{errors.New("--stream is needed, and one of --key and --idempotency-key"), "run 'forebay messages find --help'"}
		}
		query := "key=" + url.QueryEscape(*key)
		if *once != "" {
			query = "idempotency_key=" + url.QueryEscape(*once)
		}
		return show(cmd, c, *out, "/api/v1/streams/"+url.PathEscape(*stream)+"/messages?"+query, printReceipts)
	}
	cmd.AddCommand(find)
	return cmd
}

func printReceipts(w io.Writer, receipts []receipt) {
	now := time.Now()
	t := table{head: []string{"ID", "STATE", ">ACCEPTED", "DRAIN", ">MESSAGES AHEAD", ">ETA", ">ATTEMPTS", "LAST ERROR"}, none: "No messages."}
	for _, r := range receipts {
		for _, d := range r.Drains {
			t.add(r.ID, d.State, ago(now, r.AcceptedAt.Time), d.Drain, ahead(d.Position), until(now, d.ETA.Time), strconv.Itoa(d.Attempts), d.LastError)
		}
	}
	t.write(w)
}

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
	if len(r.Drains) == 0 {
		return // the note says so
	}
	fmt.Fprintln(w)
	t := table{head: []string{"DRAIN", "STATE", ">MESSAGES AHEAD", ">ETA", ">ATTEMPTS", "LAST ERROR"}}
	for _, d := range r.Drains {
		t.add(d.Drain, d.State, ahead(d.Position), until(now, d.ETA.Time), fmt.Sprint(d.Attempts), d.LastError)
	}
	t.write(w)
}

func ahead(position *uint64) string {
	if position == nil {
		return "-"
	}
	return number(*position)
}
