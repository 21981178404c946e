package main

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"forebay/policies"
)

const (
	defaultWindows = 7 * 24 * time.Hour
	maxWindows     = 10 * 366 * 24 * time.Hour
)

func newWindows() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "windows POLICY...",
		Short: "Print when each drain goes at which rate, and how many messages fit",
		Long: `Print when each drain goes at which rate, and how many messages fit. The files are
one policy; no server is asked. Days on which clocks change carry a note.`,
		Example: `  forebay windows policies/*.yaml
  forebay windows --drain orders --from 2027-11-10T00:00:00Z --for 3d shop.yaml`,
		Args: cobra.ArbitraryArgs,
	}
	out := formatFlag(cmd)
	drain := cmd.Flags().String("drain", "", "only those of drain `D`")
	from := cmd.Flags().String("from", "", "from `T` on, as 2027-11-10T00:00:00Z (default now)")
	lasts := duration(defaultWindows)
	cmd.Flags().Var(&lasts, "for", "look `DUR` ahead")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		hint := "run 'forebay windows --help'"
		if len(args) == 0 {
			return usageError{errors.New("POLICY is missing"), hint}
		}
		if time.Duration(lasts) > maxWindows {
			return usageError{errors.New("--for is over ten years"), hint}
		}
		begin := time.Now().Truncate(time.Second)
		if *from != "" {
			var err error
			if begin, err = time.Parse(time.RFC3339, *from); err != nil {
				return usageError{fmt.Errorf("%q is not a time", *from), "write 2027-11-10T00:00:00Z"}
			}
		}
		set, _, err := policies.LoadOffline(args)
		if err != nil {
			return err
		}
		list, err := set.Windows(*drain, begin, begin.Add(time.Duration(lasts)))
		if err != nil {
			return err
		}
		if *out == "json" {
			return printJSON(cmd.OutOrStdout(), append([]policies.DrainWindow{}, list...))
		}
		printWindows(cmd.OutOrStdout(), list)
		return nil
	}
	return cmd
}

func printWindows(w io.Writer, list []policies.DrainWindow) {
	t := table{head: []string{"DRAIN", "FROM", "TO", ">RATE", "BECAUSE", ">FITS", "NOTE"}}
	for _, x := range list {
		fits := "unlimited"
		if x.Capacity != nil {
			fits = strconv.FormatFloat(*x.Capacity, 'f', -1, 64)
		}
		rate := rateText(x.RateFrom)
		if x.RateTo != x.RateFrom {
			rate += " to " + rateText(x.RateTo)
		}
		t.add(x.Drain, x.From.UTC().Format(time.RFC3339), x.To.UTC().Format(time.RFC3339), rate, x.Because, fits, x.Note)
	}
	t.write(w)
}
