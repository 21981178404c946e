package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"forebay/cmd/forebay/admin"
	"forebay/limiter"
)

// format is the value of -o.
type format string

func (f *format) String() string { return string(*f) }
func (f *format) Type() string   { return "table|json" }

// Set implements pflag.Value.
func (f *format) Set(s string) error {
	if s != "table" && s != "json" {
		return fmt.Errorf("%q is neither table nor json", s)
	}
	*f = format(s)
	return nil
}

func formatFlag(cmd *cobra.Command) *format {
	f := format("table")
	cmd.Flags().VarP(&f, "output", "o", "how to print")
	return &f
}

// printJSON prints v indented, as the endpoint of the same name returns it.
func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// table is text in columns. A column whose heading starts with ">" is aligned
// to the right.
type table struct {
	head []string
	rows [][]string
	none string // what is printed where there are no rows; empty: the headings
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) write(w io.Writer) {
	if len(t.rows) == 0 && t.none != "" {
		fmt.Fprintln(w, t.none)
		return
	}
	head := make([]string, len(t.head))
	right := make([]bool, len(t.head))
	for i, h := range t.head {
		head[i], right[i] = strings.CutPrefix(h, ">")
	}
	lines := append([][]string{head}, t.rows...)
	widths := make([]int, len(head))
	for _, cells := range lines {
		for i, c := range cells {
			widths[i] = max(widths[i], utf8.RuneCountInString(c))
		}
	}
	for _, cells := range lines {
		var b strings.Builder
		for i, c := range cells {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c))
			if right[i] {
				c, pad = pad+c, ""
			}
			b.WriteString(c + pad + "  ")
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
}

// bytesText prints a size with its unit.
func bytesText(n int64) string {
	v, unit := float64(n), "B"
	for _, u := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if v < 1024 {
			break
		}
		v, unit = v/1024, u
	}
	if unit == "B" {
		return strconv.FormatInt(n, 10) + " B"
	}
	return fmt.Sprintf("%.1f %s", v, unit)
}

// ago prints how long before now t was.
func ago(now, t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return short(now.Sub(t)) + " ago"
}

// until prints how long after now t is.
func until(now, t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return "in " + short(t.Sub(now))
}

// short prints a duration with two significant units at most.
func short(d time.Duration) string {
	d = max(d, 0)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	default:
		return fmt.Sprintf("%dd%02dh", int(d.Hours())/24, int(d.Hours())%24)
	}
}

func number(n uint64) string { return strconv.FormatUint(n, 10) }

// rateText prints a rate at a length for people.
func rateText(r limiter.Rate) string { return admin.Rate(r).String() }

func perSecond(f float64) string {
	return strconv.FormatFloat(f, 'f', 1, 64) + "/s"
}
