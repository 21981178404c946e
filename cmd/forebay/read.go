package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"forebay/cmd/forebay/admin"
)

func newStreams() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "streams",
		Short:   "List the streams: what is stored, how much, since when; close and open them",
		Example: "  forebay streams\n  forebay streams -o json\n  forebay streams close orders --for 20m --reason INC-123",
		Args:    cobra.ArbitraryArgs,
	}
	c, out := clientFlags(cmd), formatFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return group(cmd, args)
		}
		return show(cmd, c, *out, "/api/v1/streams", printStreams)
	}
	cmd.AddCommand(newStreamsClose(), newStreamsOpen(), newStreamsDrop())
	return cmd
}

func newDrains() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "drains",
		Short: "See the drains, pause them, change their rate for a while",
		Args:  cobra.ArbitraryArgs,
		RunE:  group,
	}
	cmd.AddCommand(
		newRead("list", "List the drains: backlog, rate, and what holds it", "forebay drains list", "/api/v1/drains", printDrains),
		newDrainsPause(), newDrainsResume(), newDrainsRate(), newDrainsDrop(),
	)
	return cmd
}

// newRead is a command that prints what an endpoint returns.
func newRead[T any](use, short, example, path string, pretty func(io.Writer, T)) *cobra.Command {
	cmd := &cobra.Command{
		Use:     use,
		Short:   short,
		Example: "  " + example + "\n  " + example + " -o json",
		Args:    exactly(),
	}
	c, out := clientFlags(cmd), formatFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return show(cmd, c, *out, path, pretty) }
	return cmd
}

func newAudit() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Count every message again from disk, and say whether the books balance",
		Long: `Count every message again from disk, and say whether the books balance:
accepted = delivered + expired + cancelled + dead + buffered, per stream and drain.
Exits 3 when they do not.`,
		Example: "  forebay audit\n  forebay audit -o json",
		Args:    exactly(),
	}
	c, out := clientFlags(cmd), formatFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var balanced bool
		err := show(cmd, c, *out, "/api/v1/audit", func(w io.Writer, a admin.Audit) {
			printAudit(w, a)
		}, func(a admin.Audit) { balanced = a.Balanced })
		if err == nil && !balanced {
			return errNo
		}
		return err
	}
	return cmd
}

func newHealthcheck() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "healthcheck",
		Short:   "Exit 0 if the server is ready, 1 if it is not",
		Example: "  forebay healthcheck --admin-url http://127.0.0.1:9080",
		Args:    exactly(),
	}
	c := clientFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx, cancel := context.WithTimeout(cmd.Context(), 5*time.Second)
		defer cancel()
		resp, err := c.send(ctx, http.MethodGet, "/readyz", nil)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		switch resp.StatusCode {
		case http.StatusOK:
		case http.StatusServiceUnavailable:
			reason, _ := io.ReadAll(io.LimitReader(resp.Body, 200)) // the status says enough without it
			line, _, _ := strings.Cut(strings.TrimSpace(string(reason)), "\n")
			return fmt.Errorf("not ready: %s", line)
		default:
			return noAdmin(resp.StatusCode)
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), "ready")
		return err
	}
	return cmd
}

// show reads an endpoint and prints it in the format that was asked for.
func show[T any](cmd *cobra.Command, c *client, out format, path string, pretty func(io.Writer, T), also ...func(T)) error {
	var v T
	raw, err := c.get(cmd.Context(), path, &v)
	if err != nil {
		return err
	}
	for _, f := range also {
		f(v)
	}
	return printAs(cmd.OutOrStdout(), out, raw, v, pretty)
}

func printAs[T any](w io.Writer, out format, raw []byte, v T, pretty func(io.Writer, T)) error {
	if out == "json" {
		_, err := w.Write(raw)
		return err
	}
	pretty(w, v)
	return nil
}

func printStreams(w io.Writer, streams []admin.Stream) {
	now := time.Now()
	t := table{head: []string{"STREAM", "STATE", ">MESSAGES", ">SIZE", ">CAPACITY", ">FULL", ">OLDEST", ">ACCEPTED"}, none: "No streams."}
	for _, s := range streams {
		capacity := "unlimited"
		if s.CapacityBytes > 0 {
			capacity = bytesText(int64(s.CapacityBytes))
		}
		t.add(s.Name, s.State, number(s.Messages), bytesText(s.Bytes), capacity, until(now, s.FullAt.Time), ago(now, s.OldestAcceptedAt.Time), number(s.AcceptedTotal))
	}
	t.write(w)
}

func printDrains(w io.Writer, drains []admin.Drain) {
	now := time.Now()
	t := table{head: []string{
		"DRAIN", "STREAM", "SINK", "STATE", ">PENDING", ">IN FLIGHT", ">SCHEDULED", ">DEAD", ">DELIVERED",
		">RATE", ">PERMITTED", "HELD BY", ">EMPTY",
	}, none: "No drains."}
	for _, d := range drains {
		t.add(d.Name, d.Stream, d.Sink, d.State, number(d.Pending), number(d.InFlight), number(d.Scheduled), number(d.Dead),
			number(d.DeliveredTotal), perSecond(d.ActualRate), d.PermittedRate.String(), d.Binding, until(now, d.EmptyAt.Time))
	}
	t.write(w)
	if len(drains) > 0 {
		fmt.Fprintln(w, "Counts are messages.")
	}
}

func newSinks() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "sinks",
		Short:   "List the sinks: how they are, and what they can take; pause and resume them",
		Example: "  forebay sinks\n  forebay sinks -o json\n  forebay sinks pause order-service --for 20m --reason INC-123",
		Args:    cobra.ArbitraryArgs,
	}
	c, out := clientFlags(cmd), formatFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return group(cmd, args)
		}
		return show(cmd, c, *out, "/api/v1/sinks", printSinks)
	}
	cmd.AddCommand(newSinksPause(), newSinksResume())
	return cmd
}

func printSinks(w io.Writer, sinks []admin.Sink) {
	now := time.Now()
	t := table{head: []string{
		"SINK", "KIND", "STATE", ">RATE", ">BURST", ">IN FLIGHT", ">AT MOST", ">LIVE", ">WAITING", "URLS",
	}, none: "No sinks."}
	for _, s := range sinks {
		urls := make([]string, len(s.URLs))
		for i, u := range s.URLs {
			if urls[i] = u.URL; u.RestingUntil.After(now) {
				urls[i] += " (rests)"
			}
		}
		t.add(s.Name, s.Kind, s.State, s.BudgetRate.String(), strconv.Itoa(s.Burst), strconv.Itoa(s.InFlight), strconv.Itoa(s.ConcurrencyLimit),
			number(uint64(s.LiveRequestsTotal)), strconv.Itoa(s.LiveWaiting), strings.Join(urls, " "))
	}
	t.write(w)
	for _, s := range sinks {
		if l := s.ConsumerLag; l != nil && l.Holding {
			fmt.Fprintf(w, "%s waits for group %s: %s messages behind when last read, of at most %s%s\n", s.Name, l.Group,
				number(uint64(l.Messages)), number(uint64(l.MaxMessages)), unread(l.Error))
		}
		if s.Paused != nil {
			held{Name: s.Name, Until: s.Paused.Until}.say(w, "is paused ("+s.Paused.Reason+")", "forebay sinks resume "+s.Name)
		}
	}
}

func printLimits(w io.Writer, limits []admin.Limit) {
	t := table{head: []string{"LIMIT", ">RATE", ">BURST", "KEY", ">KEYS", ">MAX KEYS", ">ALLOWED", ">DENIED", ">SHADOW DENIED", ">EVICTIONS"}, none: "No limits."}
	for _, l := range limits {
		t.add(l.Name, l.Rate.String(), strconv.Itoa(l.Burst), limitKeyText(l.Key), strconv.Itoa(l.TrackedKeys), strconv.Itoa(l.MaxKeys),
			number(l.AllowedTotal), number(l.DeniedTotal), number(l.ShadowDeniedTotal), number(l.EvictionsTotal))
	}
	t.write(w)
}

func printSources(w io.Writer, sources []admin.Source) {
	t := table{head: []string{"SOURCE", "KIND", "STREAM", "STATE", ">LAG", ">STORED", ">REFUSED", ">PARTITIONS", "GROUP", "TOPICS"}, none: "No sources."}
	for _, s := range sources {
		t.add(s.Name, s.Kind, s.Stream, s.State, number(uint64(s.Lag)), number(s.StoredTotal), number(s.RefusedTotal), strconv.Itoa(len(s.Partitions)), s.Group, strings.Join(s.Topics, ","))
	}
	t.write(w)
	for _, s := range sources {
		if s.PausedReason != "" {
			fmt.Fprintf(w, "%s waits: %s\n", s.Name, s.PausedReason)
		}
		for _, p := range s.Partitions {
			if p.Stopped != "" {
				fmt.Fprintf(w, "%s stops at topic %s partition %d offset %d: %s\n", s.Name, p.Topic, p.Partition, p.Next, p.Stopped)
			}
		}
		if s.LastError != "" {
			fmt.Fprintf(w, "%s failed: %s\n", s.Name, s.LastError)
		}
	}
}

func limitKeyText(parts []string) string {
	if len(parts) == 0 {
		return "one for all"
	}
	return strings.Join(parts, ",")
}

func printRoutes(w io.Writer, routes []admin.Route) {
	t := table{head: []string{"ROUTE", "MODE", "METHODS", "HOSTS", "PATH", "STREAM", "SINK", "LIMITS", "AUTH", ">MAX BODY"}, none: "No routes."}
	for _, r := range routes {
		path := r.Path
		if path == "" {
			path = r.PathPrefix + "*"
		}
		limits := strings.Join(r.Limits, ",")
		if limits != "" && r.Enforcement == "shadow" {
			limits += " (shadow)"
		}
		t.add(r.Name, r.Mode, orAny(r.Methods), orAny(r.Hosts), path, orNone(r.Stream), orNone(r.Sink),
			orNone(limits), orNone(strings.Join(r.Auth, ",")), bytesText(r.MaxBodyBytes))
	}
	t.write(w)
}

func orNone(text string) string { return cmp.Or(text, "-") }

func orAny(list []string) string {
	if len(list) == 0 {
		return "any"
	}
	return strings.Join(list, ",")
}

func printAudit(w io.Writer, a admin.Audit) {
	t := table{head: []string{
		"STREAM", "DRAIN", ">ACCEPTED", ">DELIVERED", ">EXPIRED", ">CANCELLED", ">DEAD", ">BUFFERED", ">IMBALANCE",
	}}
	for _, d := range a.Drains {
		t.add(d.Stream, d.Drain, number(d.Accepted), number(d.Delivered), number(d.Expired), number(d.Cancelled),
			number(d.Dead), number(d.Buffered), strconv.FormatInt(d.Imbalance, 10))
	}
	t.write(w)
	if a.Balanced {
		fmt.Fprintln(w, "Counts are messages, re-counted from disk. The books balance.")
		return
	}
	fmt.Fprintln(w, "Counts are messages, re-counted from disk. THE BOOKS DO NOT BALANCE.")
}

// unread says why there is no newer reading, if there should be one.
func unread(why string) string {
	if why == "" {
		return ""
	}
	return "; not read since: " + why
}
