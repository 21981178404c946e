package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"forebay/cmd/forebay/demo"
)

func newDemo() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Watch a flash sale arrive in one burst and leave at a steady pace",
		Long: `Watch real orders arrive in one burst and leave at the pace an order service can
take, with a balance sheet at the end: first straight at the service, then through
Forebay. Needs nothing set up. Exits 0 only if the books balance and every order
arrived byte for byte.`,
		Example: `  forebay demo
  forebay demo --orders 5000 --speed 10
  forebay demo --keep`,
		Args: exactly(),
	}
	orders := cmd.Flags().Int("orders", demo.DefaultOrders, fmt.Sprintf("send `N` orders; past %d they repeat with fresh ids", demo.DefaultOrders))
	speed := cmd.Flags().Float64("speed", 1, "multiply the service's limit and the policy's rate by `X`")
	keep := cmd.Flags().Bool("keep", false, "keep the data, and say where they are")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		hint := "run 'forebay demo --help'"
		if *orders < 1 || *orders > demo.MaxOrders {
			return usageError{fmt.Errorf("--orders is %d, it goes from 1 to %d", *orders, demo.MaxOrders), hint}
		}
		if !(*speed > 0 && *speed <= demo.MaxSpeed) {
			return usageError{fmt.Errorf("--speed is %g, it goes up to %d", *speed, demo.MaxSpeed), hint}
		}
		ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		o := demo.Options{Orders: *orders, Speed: *speed, Keep: *keep, Out: cmd.OutOrStdout(), Build: build()}
		o.Terminal, o.Width = terminal(o.Out)
		o.Color = o.Terminal && os.Getenv("NO_COLOR") == ""
		err := demo.Run(ctx, o)
		if errors.Is(err, demo.ErrSheet) {
			return errReported // the sheet shows what does not hold
		}
		return err
	}
	return cmd
}

// terminal reports whether w is one that can redraw, and how wide it is.
func terminal(w io.Writer) (ok bool, width int) {
	f, isFile := w.(*os.File)
	if !isFile || !term.IsTerminal(int(f.Fd())) || os.Getenv("TERM") == "dumb" {
		return false, 0
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return true, 0
	}
	return true, width
}
