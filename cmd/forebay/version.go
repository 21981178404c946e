package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"forebay/cmd/forebay/app"
)

// Both are stamped by the build: -ldflags "-X main.version=… -X main.revision=…".
var (
	version  = "dev"
	revision = ""
)

// build says which program this is.
func build() app.Build {
	b := app.Build{Version: version, Revision: "unknown", Go: runtime.Version()}
	if revision != "" {
		b.Revision = revision[:min(12, len(revision))]
		return b
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && s.Value != "" {
			b.Revision = s.Value[:min(12, len(s.Value))]
		}
	}
	return b
}

func newVersion() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Print version, revision and toolchain",
		Example: "  forebay version\n  forebay version -o json",
		Args:    exactly(),
	}
	out := formatFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		b := build()
		if *out == "json" {
			return printJSON(cmd.OutOrStdout(), b)
		}
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "forebay %s (revision %s, %s, %s/%s)\n",
			b.Version, b.Revision, b.Go, runtime.GOOS, runtime.GOARCH)
		return err
	}
	return cmd
}
