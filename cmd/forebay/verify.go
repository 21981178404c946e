package main

import (
	"errors"
	"fmt"
	"io"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"forebay/buffer"
	"forebay/cmd/forebay/app"
)

// verdict is what verify prints as JSON.
type verdict struct {
	Sound       bool     `json:"sound"`
	Refused     bool     `json:"refused"` // a start would refuse it, and deliver nothing
	Segments    int      `json:"segments"`
	Files       int      `json:"files"`
	Blocks      int      `json:"blocks"`
	Messages    uint64   `json:"messages"`
	Bytes       int64    `json:"bytes"`
	TookSeconds float64  `json:"took_seconds"`
	Damage      []damage `json:"damage"`
	Lost        []loss   `json:"lost"`
	Quarantined []string `json:"quarantined"`
	Encrypted   bool     `json:"encrypted"`
	InClear     int      `json:"in_clear"` // segments and files of records, of a directory that is encrypted
}

type damage struct {
	File        string `json:"file"`
	At          *int64 `json:"at"` // null: the file as a whole
	What        string `json:"what"`
	Stream      string `json:"stream"`
	FirstOffset uint64 `json:"first_offset"`
	Count       uint64 `json:"count"`
	Harmless    bool   `json:"harmless"` // made again, or needed by nobody
}

type loss struct {
	Stream   string `json:"stream"`
	Drain    string `json:"drain"`
	Messages uint64 `json:"messages"`
	Dead     uint64 `json:"dead"`
}

func newVerify() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Read a data directory whole, and say whether it is sound",
		Long: `Read a data directory whole, check every block and every file, and say what is
damaged and what that costs. Changes nothing, and needs no server: one that runs
there has to be stopped, or verify a backup of it, restored elsewhere. An encrypted
directory needs the key file of its server. Exits 3 when something is damaged, also
where nothing is lost by it.`,
		Example: "  forebay verify --data /var/lib/forebay --config forebay.yaml\n  forebay verify --data ./data -o json",
		Args:    exactly(),
	}
	dir, out := cmd.Flags().String("data", "", "look into `DIR`"), formatFlag(cmd)
	keys := keyFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := missing(cmd, "data", *dir); err != nil {
			return err
		}
		masters, err := keys.read(cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		p := startProgress(cmd.ErrOrStderr(), "verify")
		begin := time.Now()
		found, err := buffer.Verify(ctx, *dir, masters, p.set)
		p.end()
		if errors.Is(err, buffer.ErrInUse) {
			err = hinted{err, "stop the server there, or take 'forebay backup', restore it elsewhere, and verify that"}
		}
		if _, ok := errors.AsType[*buffer.WrongKeyError](err); ok && len(masters) == 0 {
			err = hinted{err, "pass --encryption-key-file FILE, or --config forebay.yaml"}
		}
		if err != nil {
			return interrupted(ctx, err)
		}
		if err := app.CheckControl(*dir); err != nil {
			found.Damage = append(found.Damage, buffer.Damage{File: app.ControlFile, At: -1, What: err.Error()})
		}
		v := verdictOf(found, time.Since(begin))
		if *out == "json" {
			err = printJSON(cmd.OutOrStdout(), v)
		} else {
			printVerdict(cmd.OutOrStdout(), *dir, v)
		}
		if err == nil && !v.Sound {
			return errNo
		}
		return err
	}
	return cmd
}

func verdictOf(v *buffer.Verdict, took time.Duration) verdict {
	out := verdict{
		Sound: len(v.Damage) == 0, Refused: v.Refused, Segments: v.Segments, Files: v.Files, Blocks: v.Blocks, Messages: v.Messages, Bytes: v.Bytes,
		TookSeconds: took.Seconds(), Damage: []damage{}, Lost: []loss{}, Quarantined: append([]string{}, v.Aside...),
		Encrypted: v.Encrypted, InClear: v.Clear,
	}
	for _, d := range v.Damage {
		x := damage{File: d.File, What: d.What, Stream: d.Stream, FirstOffset: d.First, Count: d.Count, Harmless: d.Remade}
		if d.At >= 0 {
			x.At = &d.At
		}
		out.Damage = append(out.Damage, x)
	}
	for _, l := range v.Lost {
		out.Lost = append(out.Lost, loss(l))
	}
	return out
}

func printVerdict(w io.Writer, dir string, v verdict) {
	took := time.Duration(v.TookSeconds * float64(time.Second)).Round(time.Millisecond)
	fmt.Fprintf(w, "%s: %d segments, %d blocks with %d messages; %d files, %s, read in %s\n",
		dir, v.Segments, v.Blocks, v.Messages, v.Files, bytesText(v.Bytes), took)
	for _, name := range v.Quarantined {
		fmt.Fprintf(w, "not looked into: %s, which a start put aside\n", name)
	}
	if v.InClear > 0 {
		fmt.Fprintf(w, "in the clear, from before it was encrypted: %d segments and files of records\n", v.InClear)
	}
	if v.Sound {
		fmt.Fprintln(w, "sound")
		return
	}
	fmt.Fprintln(w)
	t := table{head: []string{"DAMAGED", ">AT", "WHAT", "STREAM", ">FIRST", ">COUNT", "COSTS"}}
	for _, d := range v.Damage {
		at, first, costs := "-", "-", "see below"
		if d.At != nil {
			at = strconv.FormatInt(*d.At, 10)
		}
		if d.Stream != "" {
			first = number(d.FirstOffset)
		}
		if d.Harmless {
			costs = "nothing"
		}
		t.add(d.File, at, d.What, dash(d.Stream), first, number(d.Count), costs)
	}
	t.write(w)
	fmt.Fprintln(w)
	if v.Refused {
		fmt.Fprintln(w, "a start refuses this directory: nothing of it is delivered until that is mended, or a backup restored")
		return
	}
	lost := table{head: []string{"LOST OF STREAM", "DRAIN", ">MESSAGES", ">DEAD LETTERS"}, none: "no message is lost"}
	for _, l := range v.Lost {
		lost.add(l.Stream, dash(l.Drain), number(l.Messages), number(l.Dead))
	}
	lost.write(w)
}

// dash stands for what is not known.
func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
