package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"forebay/cmd/forebay/admin"
)

const (
	leastTopInterval = 200 * time.Millisecond
	plainTopWidth    = 80 // where no terminal says

	enterScreen = "\x1b[?1049h\x1b[?25l" // the other one, without a cursor
	leaveScreen = "\x1b[?25h\x1b[?1049l"
	homeScreen  = "\x1b[H"
	wholeLine   = "\x1b[2K"
)

func newTop() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Watch streams and drains: backlog, rate against what is permitted, what holds it, when it is empty",
		Long: `Watch streams and drains: backlog, rate against what is permitted, what holds it, when
it is empty. The longest backlog comes first. A server that is gone is asked again until
it is back. Keys: n and p turn pages, s changes the order, q quits.`,
		Example: "  forebay top\n  forebay top -n 500ms\n  forebay top --once",
		Args:    exactly(),
	}
	c := clientFlags(cmd)
	every := duration(2 * time.Second)
	cmd.Flags().VarP(&every, "interval", "n", "look again after `DUR`")
	once := cmd.Flags().Bool("once", false, "print what there is, once, and end")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if time.Duration(every) < leastTopInterval {
			return usageError{fmt.Errorf("--interval is %v, it is at least %v", time.Duration(every), leastTopInterval), "run 'forebay top --help'"}
		}
		if c.patience = max(time.Duration(every), 5*time.Second); *once {
			return topOnce(cmd, c, time.Duration(every))
		}
		return topLive(cmd, c, time.Duration(every))
	}
	return cmd
}

// topReading is what was read at one time.
type topReading struct {
	at      time.Time
	drains  []admin.Drain
	streams []admin.Stream
	err     error
}

func readTop(ctx context.Context, c *client) (r topReading) {
	if _, r.err = c.get(ctx, "/api/v1/drains", &r.drains); r.err == nil {
		_, r.err = c.get(ctx, "/api/v1/streams", &r.streams)
	}
	r.at = time.Now()
	return r
}

func topOnce(cmd *cobra.Command, c *client, every time.Duration) error {
	r := readTop(cmd.Context(), c)
	if r.err != nil {
		return r.err
	}
	v := topView{url: c.adminURL, every: every}
	v.take(r)
	v.now = r.at
	_, width := terminal(cmd.OutOrStdout())
	if n, err := strconv.Atoi(os.Getenv("COLUMNS")); width == 0 && err == nil {
		width = n
	}
	if width <= 0 {
		width = plainTopWidth
	}
	lines, _ := v.frame(width, 0)
	_, err := fmt.Fprintln(cmd.OutOrStdout(), strings.Join(lines, "\n"))
	return err
}

// take puts what was read into the view. Rates of arrival come from two readings; where
// a server was started anew in between there is none.
func (v *topView) take(r topReading) {
	if r.err != nil {
		v.trouble = r.err.Error()
		return
	}
	took := r.at.Sub(v.readAt).Seconds()
	if !v.readAt.IsZero() && took > 0 {
		before := make(map[string]uint64, len(v.streams))
		for _, s := range v.streams {
			before[s.Name] = s.AcceptedTotal
		}
		v.inflow = make(map[string]float64, len(r.streams))
		for _, s := range r.streams {
			if n, ok := before[s.Name]; ok && s.AcceptedTotal >= n {
				v.inflow[s.Name] = float64(s.AcceptedTotal-n) / took
			}
		}
	}
	v.trouble, v.readAt, v.drains, v.streams = "", r.at, r.drains, r.streams
}

// press does what a key is for. It reports whether to go on.
func (v *topView) press(key string, pages int) bool {
	switch key {
	case "q", "Q", "\x03", "\x04": // Ctrl-C and Ctrl-D: the terminal makes no signals of them
		return false
	case "n", " ", "j", "\x1b[B", "\x1b[6~": // arrow, page
		v.page = min(v.page+1, pages-1)
	case "p", "b", "k", "\x1b[A", "\x1b[5~":
		v.page = max(v.page-1, 0)
	case "s":
		v.byName, v.page = !v.byName, 0
	}
	return true
}

// topLive draws on the terminal until q or a signal.
func topLive(cmd *cobra.Command, c *client, every time.Duration) error {
	out, isFile := cmd.OutOrStdout().(*os.File)
	in, inIsFile := cmd.InOrStdin().(*os.File)
	if ok, _ := terminal(cmd.OutOrStdout()); !ok || !isFile || !inIsFile || !term.IsTerminal(int(in.Fd())) {
		return hinted{errors.New("top needs a terminal"), "--once prints what there is"}
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	before, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return fmt.Errorf("terminal: %w", err)
	}
	defer func() {
		_, _ = io.WriteString(out, leaveScreen) // a terminal that is gone needs neither
		_ = term.Restore(int(in.Fd()), before)
	}()
	_, _ = io.WriteString(out, enterScreen)
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, syscall.SIGWINCH)
	defer signal.Stop(resized)
	s := topScreen{out: out, view: topView{url: c.adminURL, every: every}, keys: topKeys(in), resized: resized}
	s.run(ctx, c, every)
	return nil
}

// topKeys reads keys. Its goroutine ends with the program: nothing else ends a read
// from a terminal.
func topKeys(in io.Reader) <-chan string {
	keys := make(chan string)
	go func() {
		defer close(keys)
		buf := make([]byte, 16)
		for {
			n, err := in.Read(buf)
			if err != nil {
				return
			}
			keys <- string(buf[:n])
		}
	}()
	return keys
}

type topScreen struct {
	out     *os.File
	view    topView
	pages   int
	keys    <-chan string
	resized <-chan os.Signal
}

// run reads and draws. One reading is under way at a time, and keys do not wait for it.
func (s *topScreen) run(ctx context.Context, c *client, every time.Duration) {
	readings := make(chan topReading, 1)
	read := func() { readings <- readTop(ctx, c) }
	go read()
	next := time.NewTimer(time.Hour)
	defer next.Stop()
	for {
		s.draw()
		select {
		case <-ctx.Done():
			return
		case r := <-readings:
			s.view.take(r)
			next.Reset(every)
		case <-next.C:
			go read()
		case key, ok := <-s.keys:
			if !ok || !s.view.press(key, s.pages) {
				return
			}
		case <-s.resized:
		}
	}
}

func (s *topScreen) draw() {
	width, height, err := term.GetSize(int(s.out.Fd()))
	if err != nil || width <= 0 || height <= 0 {
		width, height = plainTopWidth, 24
	}
	s.view.now = time.Now()
	lines, pages := s.view.frame(width, height)
	s.pages = pages
	s.view.page = min(s.view.page, pages-1)
	// Each line is cleared before it is written: after it, where it fills the screen's
	// width, a terminal would clear its last character.
	text := homeScreen + wholeLine + strings.Join(lines, "\r\n"+wholeLine)
	_, _ = io.WriteString(s.out, text) // a terminal that is gone shows nothing
}
