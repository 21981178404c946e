package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"forebay/cmd/forebay/admin"
	"forebay/policies"
)

// actAs sends what an operator asks for and prints the answer.
func actAs[T any](cmd *cobra.Command, c *client, out format, method, path string, a admin.Act, pretty func(io.Writer, T)) error {
	var v T
	raw, err := c.do(cmd.Context(), method, "/api/v1"+path, a, &v)
	if err != nil {
		return err
	}
	return printAs(cmd.OutOrStdout(), out, raw, v, pretty)
}

// duration is the value of a flag such as 20m or 1d12h.
type duration time.Duration

func (d *duration) String() string { return time.Duration(*d).String() }
func (d *duration) Type() string   { return "DUR" }

// Set implements pflag.Value.
func (d *duration) Set(s string) error {
	v, err := policies.ParseDuration(s)
	if err == nil && v == 0 {
		err = errors.New("it has to be longer than nothing")
	}
	*d = duration(v)
	return err
}

// held is the answer of what holds for a while.
type held struct {
	Name  string     `json:"name"`
	Until admin.Time `json:"until"`
}

func (h held) say(w io.Writer, what, undo string) {
	if h.Until.IsZero() {
		fmt.Fprintf(w, "%s %s until '%s'\n", h.Name, what, undo)
		return
	}
	fmt.Fprintf(w, "%s %s until %s\n", h.Name, what, h.Until.Local().Format(time.RFC3339))
}

// operation is a command that acts on one drain or stream.
type operation struct {
	use, short, example string
	method, path        string // %s is the name
	needsReason         bool
	timed               bool // has --for
	say                 func(w io.Writer, h held)
}

func (o operation) command() *cobra.Command {
	cmd := &cobra.Command{Use: o.use + " NAME", Short: o.short, Example: "  forebay " + o.example, Args: exactly("NAME")}
	c, out := clientFlags(cmd), formatFlag(cmd)
	reason, lasts := reasonFlag(cmd), new(duration)
	if o.timed {
		cmd.Flags().Var(lasts, "for", "end by itself after `DUR`, as 20m")
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if o.needsReason && isBlank(*reason) {
			return missingReason(cmd)
		}
		if err := checkLasts(cmd, *lasts); err != nil {
			return err
		}
		a := admin.Act{Reason: *reason, ForSeconds: time.Duration(*lasts).Seconds()}
		return actAs(cmd, c, *out, o.method, fmt.Sprintf(o.path, url.PathEscape(args[0])), a, o.say)
	}
	return cmd
}

func reasonFlag(cmd *cobra.Command) *string {
	return cmd.Flags().String("reason", "", "`WHY`, for the operator log")
}

func missingReason(cmd *cobra.Command) error {
	return usageError{errors.New("--reason is missing"), fmt.Sprintf("the operator log keeps it; run '%s --help'", cmd.CommandPath())}
}

func isBlank(reason string) bool { return strings.TrimSpace(reason) == "" }

// checkLasts refuses a --for that the server would.
func checkLasts(cmd *cobra.Command, lasts duration) error {
	if time.Duration(lasts) <= admin.MaxFor {
		return nil
	}
	return usageError{errors.New("--for is over 366 days"), fmt.Sprintf("leave it out, or name a shorter time; run '%s --help'", cmd.CommandPath())}
}

func newDrainsPause() *cobra.Command {
	return operation{
		use: "pause", short: "Stop a drain from starting deliveries; what is in flight ends", example: "drains pause orders --for 20m --reason INC-123",
		method: http.MethodPost, path: "/drains/%s/pause", needsReason: true, timed: true,
		say: func(w io.Writer, h held) { h.say(w, "is paused", "forebay drains resume "+h.Name) },
	}.command()
}

func newDrainsResume() *cobra.Command {
	return operation{
		use: "resume", short: "End a pause", example: "drains resume orders",
		method: http.MethodPost, path: "/drains/%s/resume",
		say: func(w io.Writer, h held) { fmt.Fprintf(w, "%s is not paused\n", h.Name) },
	}.command()
}

func newStreamsClose() *cobra.Command {
	return operation{
		use: "close", short: "Refuse what is new to a stream with 503; what is stored drains on", example: "streams close orders --for 20m --reason INC-123",
		method: http.MethodPost, path: "/streams/%s/close", needsReason: true, timed: true,
		say: func(w io.Writer, h held) { h.say(w, "is closed", "forebay streams open "+h.Name) },
	}.command()
}

func newSinksPause() *cobra.Command {
	return operation{
		use: "pause", short: "Send nothing to a sink any more, from routes and drains; what is in flight ends",
		example: "sinks pause order-service --for 20m --reason INC-123",
		method:  http.MethodPost, path: "/sinks/%s/pause", needsReason: true, timed: true,
		say: func(w io.Writer, h held) { h.say(w, "is paused", "forebay sinks resume "+h.Name) },
	}.command()
}

func newSinksResume() *cobra.Command {
	return operation{
		use: "resume", short: "End a pause", example: "sinks resume order-service",
		method: http.MethodPost, path: "/sinks/%s/resume",
		say: func(w io.Writer, h held) { fmt.Fprintf(w, "%s is not paused\n", h.Name) },
	}.command()
}

func newStreamsOpen() *cobra.Command {
	return operation{
		use: "open", short: "Take in again what is new to a stream", example: "streams open orders",
		method: http.MethodPost, path: "/streams/%s/open",
		say: func(w io.Writer, h held) { fmt.Fprintf(w, "%s is open\n", h.Name) },
	}.command()
}

func newDrainsDrop() *cobra.Command {
	return drop("drains", "Give up all that a drain has not delivered, and its dead letters: they end as cancelled")
}

func newStreamsDrop() *cobra.Command {
	return drop("streams", "Give up all that is in a stream, for every drain: it ends as cancelled")
}

func drop(what, short string) *cobra.Command {
	cmd := &cobra.Command{
		Use: "drop NAME", Short: short, Args: exactly("NAME"),
		Example: fmt.Sprintf("  forebay %s drop old-orders --reason 'moved to the new shop'", what),
	}
	c, out, reason := clientFlags(cmd), formatFlag(cmd), reasonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if isBlank(*reason) {
			return missingReason(cmd)
		}
		path := fmt.Sprintf("/%s/%s/drop", what, url.PathEscape(args[0]))
		return actAs(cmd, c, *out, http.MethodPost, path, admin.Act{Reason: *reason}, printCancelled)
	}
	return cmd
}

func printCancelled(w io.Writer, n admin.Cancelled) {
	fmt.Fprintf(w, "%s cancelled\n", counted(n.Cancelled, "message"))
}

func newDrainsRate() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rate NAME (RATE --for DUR --reason WHY | --clear)",
		Short: "Put a rate in the place of a drain's schedule for a while; the sink's budget still binds",
		Example: `  forebay drains rate orders 50/s --for 20m --reason INC-123
  forebay drains rate orders --clear`,
		Args: cobra.ArbitraryArgs,
	}
	c, out, reason := clientFlags(cmd), formatFlag(cmd), reasonFlag(cmd)
	var lasts duration
	cmd.Flags().Var(&lasts, "for", "end by itself after `DUR`, as 20m")
	clear := cmd.Flags().Bool("clear", false, "go back to the schedule")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *clear {
			if err := exactly("NAME")(cmd, args); err != nil {
				return err
			}
			if lasts != 0 {
				return usageError{errors.New("--clear takes no --for"), "it goes back to the schedule for good"}
			}
			return actAs(cmd, c, *out, http.MethodDelete, ratePath(args[0]), admin.Act{Reason: *reason}, func(w io.Writer, h held) {
				fmt.Fprintf(w, "%s keeps to its schedule\n", h.Name)
			})
		}
		a, err := override(cmd, args, lasts, *reason)
		if err != nil {
			return err
		}
		return actAs(cmd, c, *out, http.MethodPut, ratePath(args[0]), a, func(w io.Writer, h held) {
			h.say(w, "goes at "+a.Rate.String(), "")
		})
	}
	return cmd
}

func ratePath(drain string) string { return "/drains/" + url.PathEscape(drain) + "/rate" }

func override(cmd *cobra.Command, args []string, lasts duration, reason string) (admin.Act, error) {
	if err := exactly("NAME", "RATE")(cmd, args); err != nil {
		return admin.Act{}, err
	}
	rate, err := policies.ParseRate(args[1])
	switch {
	case err != nil:
		return admin.Act{}, usageError{err, fmt.Sprintf("run '%s --help'", cmd.CommandPath())}
	case lasts == 0:
		return admin.Act{}, usageError{errors.New("--for is missing"), "an override has to end: --for 20m"}
	case isBlank(reason):
		return admin.Act{}, missingReason(cmd)
	}
	if err := checkLasts(cmd, lasts); err != nil {
		return admin.Act{}, err
	}
	asked := admin.Rate(rate)
	return admin.Act{Rate: &asked, ForSeconds: time.Duration(lasts).Seconds(), Reason: reason}, nil
}
