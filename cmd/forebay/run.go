package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"forebay/cmd/forebay/config"
	"forebay/policies"
)

// Exit codes. Scripts rely on them.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
	exitNo     = 3 // the command worked, and its answer is no
)

// run is the program without the process around it. It returns the exit code
// and ends when ctx does.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.InitDefaultCompletionCmd() // it keeps the writer that root has by then
	if c, _, err := root.Find([]string{"completion"}); err == nil {
		c.Args, c.RunE = cobra.ArbitraryArgs, group // by itself it would call a misspelt shell a success
	}
	return report(stderr, root.ExecuteContext(ctx))
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "forebay",
		Short: "Absorb the flash sale, ship at the pace your services can take",
		Long: `Forebay takes requests into a durable buffer and releases them to the services
behind it at the rate their policy allows. 202 means that the message is on disk.`,
		Example: `  forebay demo
  forebay check policies/*.yaml
  forebay serve --policies 'policies/*.yaml' --data /var/lib/forebay`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE:          group,
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{err, fmt.Sprintf("run '%s --help'", cmd.CommandPath())}
	})
	root.AddCommand(
		newServe(), newCheck(), newWindows(), newDemo(),
		newStreams(), newDrains(), newWhy(), newReceipts(), newMessages(), newDead(), newEvents(), newAudit(),
		newRead("sources", "List the sources: how far they are, and what holds them", "forebay sources", "/api/v1/sources", printSources),
		newRead("limits", "List the limits on callers: what they allow, and whom they refused", "forebay limits", "/api/v1/limits", printLimits),
		newSinks(),
		newRead("routes", "List the routes: which requests, and what happens to them", "forebay routes", "/api/v1/routes", printRoutes),
		newVerify(), newBackup(), newRestore(), newEncryption(), newBench(), newShip(), newTop(),
		newDashboards(), newKeys(), newSchema(), newHealthcheck(), newVersion(),
	)
	return root
}

// group runs a command that only has commands below it. The program's name alone
// asks for help; anything else is wrong use, which a script has to see.
func group(cmd *cobra.Command, args []string) error {
	hint := fmt.Sprintf("run '%s --help'", cmd.CommandPath())
	switch {
	case len(args) == 0 && !cmd.HasParent():
		return cmd.Help()
	case len(args) == 0:
		return usageError{fmt.Errorf("'%s' needs a command: %s", cmd.CommandPath(), strings.Join(below(cmd), ", ")), hint}
	}
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		hint = fmt.Sprintf("did you mean '%s %s'?", cmd.CommandPath(), near[0])
	}
	return usageError{fmt.Errorf("unknown command %q for '%s'", args[0], cmd.CommandPath()), hint}
}

// below are the names of the commands below one.
func below(cmd *cobra.Command) (names []string) {
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	return names
}

// exactly is cobra.ExactArgs with names in its error.
func exactly(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		hint := fmt.Sprintf("run '%s --help'", cmd.CommandPath())
		if len(args) < len(names) {
			return usageError{fmt.Errorf("%s is missing", names[len(args)]), hint}
		}
		if len(args) > len(names) {
			return usageError{fmt.Errorf("unexpected argument %q", args[len(names)]), hint}
		}
		return nil
	}
}

// usageError is a command that was typed wrongly.
type usageError struct {
	error
	hint string
}

// hinted is a failure with a way on.
type hinted struct {
	error
	hint string
}

func (h hinted) Unwrap() error { return h.error }

// errNo ends a command whose answer, already printed, is no.
var errNo = errors.New("no")

// errReported ends a command whose failure has been told already.
var errReported = errors.New("already reported")

// report prints what went wrong, one line each and then a hint, and returns
// the exit code.
func report(w io.Writer, err error) int {
	var (
		usage    usageError
		hint     hinted
		problems config.Problems
		mistakes policies.Errors
	)
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errNo):
		return exitNo
	case errors.Is(err, errReported):
	case errors.As(err, &usage):
		printError(w, usage.error, usage.hint)
		return exitUsage
	case errors.As(err, &problems):
		printProblems(w, problems)
	case errors.As(err, &mistakes):
		fmt.Fprintln(w, strings.TrimRight(mistakes.Error(), "\n"))
	case errors.As(err, &hint):
		printError(w, err, hint.hint)
	default:
		printError(w, err, "")
	}
	return exitFailed
}

func printError(w io.Writer, err error, hint string) {
	fmt.Fprintf(w, "error: %v\n", err)
	if hint != "" {
		fmt.Fprintf(w, "hint: %s\n", hint)
	}
}

// finding is a mistake in the process configuration, told as one in a policy is.
func finding(p config.Problem, s policies.Severity) policies.Error {
	return policies.Error{File: p.File, Line: p.Line, Column: p.Column, Message: p.Message, Hint: p.Hint, Source: p.Source, Severity: s}
}

func printProblems(w io.Writer, problems config.Problems) {
	for _, p := range problems {
		if p.Line > 0 {
			fmt.Fprintln(w, finding(p, policies.Mistake).Detail())
			continue
		}
		fmt.Fprintln(w, p.Error())
		if p.Hint != "" {
			fmt.Fprintf(w, "hint: %s\n", p.Hint)
		}
	}
}

// missing names the first flag that has no value, of pairs of both.
func missing(cmd *cobra.Command, pairs ...string) error {
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] == "" {
			return usageError{fmt.Errorf("--%s is missing", pairs[i]), fmt.Sprintf("run '%s --help'", cmd.CommandPath())}
		}
	}
	return nil
}
