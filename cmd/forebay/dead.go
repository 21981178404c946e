package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"forebay/buffer"
	"forebay/cmd/forebay/admin"
	"forebay/policies"
)

func newDead() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dead",
		Short: "See what could not be delivered, bring it back, or give it up",
		Args:  cobra.ArbitraryArgs,
		RunE:  group,
	}
	cmd.AddCommand(newDeadList(), newDeadShow(), newDeadReplay(), newDeadDrop())
	return cmd
}

// selectionFlags are those that say which dead letters. Call the function once
// the flags are parsed.
func selectionFlags(cmd *cobra.Command) func(now time.Time) (admin.Selection, error) {
	var s admin.Selection
	cmd.Flags().StringVar(&s.Drain, "drain", "", "those of drain `D`")
	cmd.Flags().Var((*cause)(&s.DiedOf), "died-of", "those that died of `REASON`: "+causes())
	since := cmd.Flags().String("since", "", "those that died since `T`: 2027-11-11T00:00:00Z, or 2h for two hours ago")
	return func(now time.Time) (admin.Selection, error) {
		if s.Drain == "" {
			return s, usageError{errors.New("--drain is missing"), fmt.Sprintf("run '%s --help'", cmd.CommandPath())}
		}
		if *since == "" && cmd.Flags().Changed("since") {
			return s, usageError{errors.New("--since is empty"), "leave it out to mean all"}
		}
		at, err := moment(now, *since)
		if err != nil {
			return s, err
		}
		s.Since = admin.Time{Time: at}
		return s, nil
	}
}

// cause is the value of --died-of.
type cause string

func (c *cause) String() string { return string(*c) }
func (c *cause) Type() string   { return "REASON" }

// Set implements pflag.Value.
func (c *cause) Set(s string) error {
	if !slices.Contains(buffer.Reasons(), buffer.Reason(s)) {
		return fmt.Errorf("it is one of %s", causes())
	}
	*c = cause(s)
	return nil
}

// causes are what a message can die of.
func causes() string {
	var list []string
	for _, r := range buffer.Reasons() {
		list = append(list, string(r))
	}
	return strings.Join(list, ", ")
}

// moment reads a time, or how long ago it was. Empty is the zero time.
func moment(now time.Time, s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := policies.ParseDuration(s); err == nil {
		return now.Add(-d), nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return t, usageError{fmt.Errorf("%q is not a time", s), "write 2027-11-11T00:00:00Z, or 2h for two hours ago"}
	}
	return t, nil
}

func newDeadList() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list --drain D",
		Short: "List dead letters: what they died of, and what the sink said",
		Example: `  forebay dead list --drain orders
  forebay dead list --drain orders --died-of permanent --since 2h`,
		Args: exactly(),
	}
	c, out, selected := clientFlags(cmd), formatFlag(cmd), selectionFlags(cmd)
	after := cmd.Flags().String("after", "", "go on from the `NEXT` of the page before")
	limit := cmd.Flags().Int("limit", 100, "at most `N` of them, up to 1000")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		s, err := selected(time.Now())
		if err != nil {
			return err
		}
		return show(cmd, c, *out, deadPath(s, *after, *limit), printDead)
	}
	return cmd
}

// deadPath is where a page of the dead letters that are selected is.
func deadPath(s admin.Selection, after string, limit int) string {
	q := url.Values{"drain": {s.Drain}, "limit": {strconv.Itoa(limit)}}
	for name, value := range map[string]string{"died_of": s.DiedOf, "after": after} {
		if value != "" {
			q.Set(name, value)
		}
	}
	if !s.Since.IsZero() {
		q.Set("since", s.Since.UTC().Format(time.RFC3339Nano))
	}
	return "/api/v1/dead?" + q.Encode()
}

func printDead(w io.Writer, page admin.Page[admin.Dead]) {
	now := time.Now()
	t := table{head: []string{"ID", "KEY", "DIED OF", ">STATUS", ">ATTEMPTS", ">ACCEPTED", ">DIED", "LAST ERROR"}, none: "No dead letters."}
	for _, d := range page.Items {
		t.add(d.ID, d.Key, d.Reason, strconv.Itoa(d.Status), strconv.Itoa(d.Attempts),
			ago(now, d.AcceptedAt.Time), ago(now, d.BuriedAt.Time), d.LastError)
	}
	t.write(w)
	if page.Next != nil {
		fmt.Fprintf(w, "There are more: --after %s\n", *page.Next)
	}
}

func newDeadShow() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "show ID",
		Short:   "Show a dead letter whole: request, header, body",
		Example: "  forebay dead show 6tmt2yvljfhk3k4ra5yb3rsx7a",
		Args:    exactly("ID"),
	}
	c, out := clientFlags(cmd), formatFlag(cmd)
	drain := cmd.Flags().String("drain", "", "that of drain `D`, where several have buried it")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		path := "/api/v1/dead/" + url.PathEscape(args[0])
		if *drain != "" {
			path += "?drain=" + url.QueryEscape(*drain)
		}
		return show(cmd, c, *out, path, printDeadMessage)
	}
	return cmd
}

func printDeadMessage(w io.Writer, d admin.DeadMessage) {
	now := time.Now()
	fmt.Fprintf(w, "id        %s\nstream    %s\ndrain     %s\nkey       %s\n", d.ID, d.Stream, d.Drain, d.Key)
	fmt.Fprintf(w, "died of   %s, %s, after %s\n", d.Reason, ago(now, d.BuriedAt.Time), counted(d.Attempts, "attempt"))
	fmt.Fprintf(w, "accepted  %s (%s)\n", d.AcceptedAt.UTC().Format(time.RFC3339), ago(now, d.AcceptedAt.Time))
	fmt.Fprintf(w, "error     %s\n\n%s %s\n", d.LastError, d.Method, d.Target)
	for _, f := range d.Header {
		fmt.Fprintf(w, "%s: %s\n", f[0], f[1])
	}
	fmt.Fprintln(w)
	if !utf8.Valid(d.Body) {
		fmt.Fprintf(w, "%s that are no text; -o json has them as body_base64\n", counted(len(d.Body), "byte"))
		return
	}
	fmt.Fprintf(w, "%s\n", d.Body)
}

func newDeadReplay() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "replay --drain D",
		Short: "Bring dead letters back: they leave at the drain's own pace, with the same ids",
		Example: `  forebay dead replay --drain orders --died-of permanent --dry-run
  forebay dead replay --drain orders --id 6tmt2yvljfhk3k4ra5yb3rsx7a --reason INC-123
  forebay dead replay --drain orders --rate 50/s --reason INC-123`,
		Args: exactly(),
	}
	rate := cmd.Flags().String("rate", "", "bring them back bit by bit, at `RATE` such as 50/s, rather than all at once")
	act := newDeadAct(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		a, err := act.asked()
		if err != nil {
			return err
		}
		if *rate != "" && !a.DryRun {
			return replaySlowly(cmd, act, a, *rate)
		}
		return actAs(cmd, act.client, *act.out, http.MethodPost, "/dead/replay", a, func(w io.Writer, r admin.Replayed) {
			sayDead(w, r.Matched, r.Replayed, r.DryRun, "replayed")
		})
	}
	return cmd
}

func newDeadDrop() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "drop --drain D",
		Short: "Give dead letters up: they end as cancelled, and their space is freed",
		Example: `  forebay dead drop --drain orders --died-of retention --dry-run
  forebay dead drop --drain orders --since 2h --reason INC-123`,
		Args: exactly(),
	}
	act := newDeadAct(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		a, err := act.asked()
		if err != nil {
			return err
		}
		return actAs(cmd, act.client, *act.out, http.MethodDelete, "/dead", a, func(w io.Writer, d admin.Dropped) {
			sayDead(w, d.Matched, d.Dropped, d.DryRun, "dropped")
		})
	}
	return cmd
}

// deadAct is what commands that act on dead letters have in common.
type deadAct struct {
	client   *client
	out      *format
	selected func(now time.Time) (admin.Selection, error)
	reason   *string
	ids      *[]string
	dry      *bool
}

func newDeadAct(cmd *cobra.Command) deadAct {
	return deadAct{
		client: clientFlags(cmd), out: formatFlag(cmd), selected: selectionFlags(cmd), reason: reasonFlag(cmd),
		ids: cmd.Flags().StringArray("id", nil, "that with `ID`; may be repeated"),
		dry: cmd.Flags().Bool("dry-run", false, "only say how many there are"),
	}
}

// asked is what the flags ask for.
func (d deadAct) asked() (admin.Act, error) {
	s, err := d.selected(time.Now())
	if slices.Contains(*d.ids, "") {
		return admin.Act{}, usageError{errors.New("--id is empty"), "leave it out to mean all"}
	}
	s.IDs, s.DryRun = *d.ids, *d.dry
	return admin.Act{Reason: *d.reason, Selection: s}, err
}

func sayDead(w io.Writer, matched, done int, dry bool, what string) {
	if dry {
		fmt.Fprintf(w, "%s would be %s\n", counted(matched, "dead letter"), what)
		return
	}
	fmt.Fprintf(w, "%s %s\n", counted(done, "dead letter"), what)
}
