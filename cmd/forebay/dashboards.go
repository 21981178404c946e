package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"forebay/dashboards"
)

func newDashboards() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dashboards",
		Short: "Dashboards for Grafana, and rules for Prometheus",
		Args:  cobra.ArbitraryArgs,
		RunE:  group,
	}
	cmd.AddCommand(newDashboardsExport())
	return cmd
}

func newDashboardsExport() *cobra.Command {
	var runbooks string
	cmd := &cobra.Command{
		Use:   "export DIR",
		Short: "Write the dashboards, and the recording and alert rules, to a folder",
		Long: "Write the dashboards (forebay-*.json), and the recording and alert rules (rules/*.yaml), to a folder.\n" +
			"It is made where there is none; files of the same names are replaced, others stay.",
		Example: "  forebay dashboards export /var/lib/grafana/dashboards\n  forebay dashboards export ./forebay --runbooks https://wiki.example.com/forebay",
		Args:    exactly("a folder"),
		RunE: func(cmd *cobra.Command, args []string) error {
			names, err := dashboards.Export(args[0], runbooks)
			if err != nil {
				return err
			}
			for _, name := range names {
				fmt.Fprintln(cmd.OutOrStdout(), filepath.Join(args[0], filepath.FromSlash(name)))
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&runbooks, "runbooks", "", "URL of the folder of runbooks, for the alerts' runbook_url")
	return cmd
}
