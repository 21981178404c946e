package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"forebay/cmd/forebay/admin"
)

func newWhy() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "why DRAIN",
		Short:   "Say what keeps a drain from going faster, and what changes next",
		Example: "  forebay why orders\n  forebay why orders --message 6tmt2yvljfhk3k4ra5yb3rsx7a",
		Args:    exactly("DRAIN"),
	}
	c, out := clientFlags(cmd), formatFlag(cmd)
	message := cmd.Flags().String("message", "", "say too what is ahead of the message with receipt `ID`")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		path := "/api/v1/drains/" + url.PathEscape(args[0]) + "/why"
		if *message == "" {
			return show(cmd, c, *out, path, printWhy)
		}
		return whyMessage(cmd, c, *out, path, args[0], *message)
	}
	return cmd
}

// whyMessage joins what two endpoints say.
func whyMessage(cmd *cobra.Command, c *client, out format, path, drain, id string) error {
	var (
		w admin.Why
		r receipt
	)
	why, err := c.get(cmd.Context(), path+"?message="+url.QueryEscape(id), &w)
	if err != nil {
		return err
	}
	message, err := c.get(cmd.Context(), receiptPath(id), &r)
	if err != nil {
		return err
	}
	if out == "json" {
		return printJSON(cmd.OutOrStdout(), map[string]json.RawMessage{"why": why, "message": message})
	}
	for _, d := range r.Drains {
		if d.Drain == drain {
			printAhead(cmd.OutOrStdout(), r, d, w.Message)
			printWhy(cmd.OutOrStdout(), w)
			return nil
		}
	}
	return fmt.Errorf("message %s is in stream %s, which drain %s does not read", id, r.Stream, drain)
}

// printAhead says what is ahead of a message and what it waits for; m is nil where the
// drain has finished it.
func printAhead(w io.Writer, r receipt, d receiptDrain, m *admin.Standing) {
	fmt.Fprintf(w, "%s is %s", r.ID, d.State)
	if m != nil {
		fmt.Fprintf(w, ", with %s ahead of it; it waits for: %s", counted(int(m.Ahead), "message"), m.WaitsFor)
	} else if d.Position != nil {
		fmt.Fprintf(w, ", with %s ahead of it", counted(int(*d.Position), "message"))
	}
	switch {
	case !d.ETA.IsZero():
		fmt.Fprintf(w, "; it leaves %s", until(time.Now(), d.ETA.Time))
	case r.ETANote != "":
		fmt.Fprintf(w, "; when it leaves is not in sight: %s", r.ETANote)
	}
	fmt.Fprint(w, "\n\n")
}

func printWhy(w io.Writer, y admin.Why) {
	now := time.Now()
	if y.Binding == "" {
		fmt.Fprintf(w, "%s is not in the policy: nothing of it is delivered\n\n", y.Drain)
	} else {
		fmt.Fprintf(w, "%s may go at %s, held by %s\n\n", y.Drain, y.Rate, y.Binding)
	}
	t := table{head: []string{"", "CONSTRAINT", ">RATE", ">UNTIL", "DETAIL"}}
	for _, c := range y.Constraints {
		mark := ""
		if c.Name == y.Binding {
			mark = "*"
		}
		t.add(mark, c.Name, c.Rate.String(), until(now, c.Until.Time), c.Detail)
	}
	t.write(w)
	for _, g := range y.Gathering {
		what := "gather"
		if g.Ending {
			what = "are complete"
		}
		fmt.Fprintf(w, "\n%s (%s) %s in %s, begun %s ago.\n", counted(g.Messages, "message"), bytesText(g.Bytes), what, g.Place, short(now.Sub(g.Since.Time)))
	}
	if h := y.Head; h != nil {
		fmt.Fprintf(w, "\nThe oldest message is %s (%s). What it waits for: %s.\n", h.ID, h.State, h.WaitsFor)
	}
	if n := y.NextChange; n != nil {
		fmt.Fprintf(w, "\nThe schedule changes %s to %s (%s).\n", until(now, n.At.Time), n.Rate, n.Because)
	}
}

// maxEvents is as many as the endpoint tells at a time.
const maxEvents = 1000

func newEvents() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "events",
		Short:   "Show the operator log: reloads, pauses, overrides and recoveries, with who and why",
		Example: "  forebay events\n  forebay events --since 2h",
		Args:    exactly(),
	}
	c, out := clientFlags(cmd), formatFlag(cmd)
	since := cmd.Flags().String("since", "24h", "from `T` on: 2027-11-11T00:00:00Z, or 2h for two hours ago")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		from, err := moment(time.Now(), *since)
		if err != nil {
			return err
		}
		q := url.Values{"limit": {strconv.Itoa(maxEvents)}, "since": {from.UTC().Format(time.RFC3339Nano)}}
		return show(cmd, c, *out, "/api/v1/events?"+q.Encode(), printEvents)
	}
	return cmd
}

func printEvents(w io.Writer, page admin.Page[admin.Event]) {
	t := table{head: []string{"AT", "KIND", "OBJECT", "ACTOR", "REASON", "DETAIL"}, none: "No events."}
	for _, e := range page.Items {
		t.add(e.At.Local().Format(time.RFC3339), e.Kind, e.Object, e.Actor, e.Reason, e.Detail)
	}
	t.write(w)
	if n := len(page.Items); n == maxEvents {
		fmt.Fprintf(w, "There may be more: --since %s\n", page.Items[n-1].At.UTC().Format(time.RFC3339Nano))
	}
}
