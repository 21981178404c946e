package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"forebay/cmd/forebay/config"
	"forebay/policies"
)

func newCheck() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check POLICY...",
		Short: "Report every mistake in policy files, and what they compile to",
		Long: `Report every mistake in policy files, with its line and a way to mend it, and what
they compile to. The files are one policy. Exits 1 on a mistake, and 3 on a warning
with --strict. With --online it also connects to what sinks and sources name: brokers,
who Forebay is there, topics and rights, and URLs, at most 10 s each; nothing is
delivered. Without it nothing is connected to.`,
		Example: `  forebay check policies/*.yaml
  forebay check --strict policies/*.yaml
  forebay check --online policies/*.yaml
  forebay check --config forebay.yaml`,
		Args: cobra.ArbitraryArgs,
	}
	file := cmd.Flags().String("config", "", "check the process configuration in `F` too, and the policies it names")
	online := cmd.Flags().Bool("online", false, "connect to what sinks and sources name too; secrets have to be there")
	strict := cmd.Flags().Bool("strict", false, "exit 3 on warnings")
	out := formatFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 && *file == "" {
			return usageError{errors.New("POLICY is missing"), "run 'forebay check --help'"}
		}
		f, err := inspect(*file, args, *online)
		if err != nil {
			return err
		}
		if *online && f.set != nil {
			mistakes, warnings := tryOnline(cmd.Context(), f.set)
			f.mistakes, f.warnings = append(f.mistakes, mistakes...), append(f.warnings, warnings...)
		}
		return f.report(cmd, *out, *strict)
	}
	return cmd
}

// findings is all that a check found.
type findings struct {
	problems config.Problems
	mistakes policies.Errors
	warnings policies.Errors
	set      *policies.Set // nil where there are mistakes
}

// inspect checks the configuration, then the policies; mistakes in one do not
// hide those in the other. With secrets set, those that are missing are mistakes, as
// for a server that starts.
func inspect(file string, paths []string, secrets bool) (findings, error) {
	var f findings
	if file != "" {
		named, missing, err := config.CheckFile(file)
		if err != nil && !errors.As(err, &f.problems) {
			return f, err
		}
		if len(paths) == 0 {
			paths = named
		}
		for _, p := range missing {
			f.warnings = append(f.warnings, finding(p, policies.Warning))
		}
	}
	if len(paths) == 0 {
		return f, nil
	}
	set, missing, err := load(paths, secrets)
	if err != nil && !errors.As(err, &f.mistakes) {
		return f, err
	}
	f.set, f.warnings = set, append(f.warnings, missing...)
	if set != nil {
		f.warnings = append(f.warnings, policies.Check(set, time.Now())...)
	}
	return f, nil
}

func load(paths []string, secrets bool) (set *policies.Set, missing policies.Errors, err error) {
	if secrets {
		set, err = policies.Load(paths)
		return set, nil, err
	}
	return policies.LoadOffline(paths)
}

func (f findings) report(cmd *cobra.Command, out format, strict bool) error {
	bad := len(f.problems)+len(f.mistakes) > 0
	if out == "json" {
		if err := printJSON(cmd.OutOrStdout(), f.document()); err != nil {
			return err
		}
	} else {
		f.print(cmd.OutOrStdout(), cmd.ErrOrStderr())
	}
	switch {
	case bad:
		return errReported
	case strict && len(f.warnings) > 0:
		return errNo
	default:
		return nil
	}
}

// document is the JSON form: both lists have the items of a refused reload.
func (f findings) document() any {
	all := policies.Errors{}
	for _, p := range f.problems {
		all = append(all, finding(p, policies.Mistake))
	}
	return struct {
		OK       bool            `json:"ok"`
		Errors   policies.Errors `json:"errors"`
		Warnings policies.Errors `json:"warnings"`
	}{len(all)+len(f.mistakes) == 0, append(all, f.mistakes...), append(policies.Errors{}, f.warnings...)}
}

func (f findings) print(stdout, stderr io.Writer) {
	printProblems(stderr, f.problems)
	for _, list := range []policies.Errors{f.mistakes, f.warnings} {
		if len(list) > 0 {
			fmt.Fprintln(stderr, list.Error())
		}
	}
	if f.set != nil && len(f.problems)+len(f.mistakes) == 0 {
		printSet(stdout, f.set)
	}
}

// printSet prints what a policy compiles to.
func printSet(w io.Writer, set *policies.Set) {
	fmt.Fprintf(w, "policy %s: %s, %s, %s, %s\n\n", set.Hash, counted(len(set.Routes), "route"), counted(len(set.Streams), "stream"),
		counted(len(set.Drains), "drain"), counted(len(set.Sinks), "sink"))
	t := table{head: []string{"ROUTE", "MATCH", "MODE", "STREAM", ">MAX BODY"}}
	for _, r := range set.Routes {
		t.add(r.Name, matchText(r), string(r.Mode), goesTo(r), bytesText(r.MaxBody))
	}
	t.write(w)
	printSetSources(w, set.Sources)
	printSetLimits(w, set.Limits)
	if len(set.Drains) == 0 {
		return
	}
	fmt.Fprintln(w)
	t = table{head: []string{"DRAIN", "STREAM", "SINK", ">BASE", ">SINK BUDGET", "ENTRIES"}}
	for _, d := range set.Drains {
		t.add(d.Name, d.Stream, d.Sink, rateText(d.Schedule.Base), rateText(set.Sink(d.Sink).Budget.Limit.Rate), entriesText(d.Schedule))
	}
	t.write(w)
}

func printSetSources(w io.Writer, sources []policies.Source) {
	if len(sources) == 0 {
		return
	}
	fmt.Fprintln(w)
	t := table{head: []string{"SOURCE", "TOPICS", "GROUP", "STREAM", "FROM", "REFUSED"}}
	for _, s := range sources {
		t.add(s.Name, strings.Join(s.Kafka.Topics, ","), s.Kafka.Group, s.Stream, s.From(), cmp.Or(s.RefusedTopic, "stop"))
	}
	t.write(w)
}

func printSetLimits(w io.Writer, limits []policies.Limit) {
	if len(limits) == 0 {
		return
	}
	fmt.Fprintln(w)
	t := table{head: []string{"LIMIT", ">RATE", ">BURST", "KEY", ">MAX KEYS"}}
	for _, l := range limits {
		parts := make([]string, len(l.Key))
		for i, k := range l.Key {
			parts[i] = k.String()
		}
		t.add(l.Name, rateText(l.Limit.Rate), strconv.Itoa(l.Limit.Burst), limitKeyText(parts), strconv.Itoa(l.MaxKeys))
	}
	t.write(w)
}

// goesTo is the stream that a route fills, or the sink that it passes on to.
func goesTo(r policies.Route) string {
	if r.Stream == "" {
		return "→ " + r.Sink
	}
	return r.Stream
}

func matchText(r policies.Route) string {
	path := r.Path
	if path == "" {
		path = r.PathPrefix + "*"
	}
	methods := "any method"
	if len(r.Methods) > 0 {
		methods = strings.Join(r.Methods, ",")
	}
	return methods + " " + strings.Join(r.Hosts, ",") + path
}

func entriesText(s policies.Schedule) string {
	if len(s.Entries) == 0 {
		return "-"
	}
	list := make([]string, 0, len(s.Entries))
	for _, e := range s.Entries {
		list = append(list, e.Name+": "+rateText(e.Rate))
	}
	return strings.Join(list, ", ")
}

func counted(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}
