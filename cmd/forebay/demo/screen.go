package demo

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// screen prints lines that stay, and below them a block that is drawn again
// and again in place. Without a terminal the block is one line a second.
type screen struct {
	w        io.Writer
	terminal bool
	color    bool
	width    int // columns

	drawn int       // lines of the block on the terminal
	last  time.Time // of the last plain line
}

// frame is one state of the block: lines for a terminal, and one plain line.
type frame struct {
	lines []string
	plain string
}

// frameEvery is how often a frame is drawn on a terminal.
const frameEvery = 100 * time.Millisecond

const hideCursor, showCursor = "\x1b[?25l", "\x1b[?25h"

// say prints a line that stays. It ends the block above it.
func (s *screen) say(format string, args ...any) {
	s.drawn = 0
	fmt.Fprintf(s.w, format+"\n", args...)
}

// draw shows a frame in the place of the one before it.
func (s *screen) draw(now time.Time, f frame) {
	if !s.terminal {
		if now.Sub(s.last) >= time.Second-frameEvery/2 {
			s.last = now
			fmt.Fprintln(s.w, f.plain)
		}
		return
	}
	var b strings.Builder
	if s.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", s.drawn)
	}
	for _, line := range f.lines {
		b.WriteString("\r\x1b[2K" + line + "\n")
	}
	s.drawn = len(f.lines)
	_, _ = io.WriteString(s.w, b.String()) // a terminal that is gone shows nothing
}

// finish draws the last frame, which stays.
func (s *screen) finish(f frame) {
	s.last = time.Time{}
	s.draw(time.Now(), f)
	s.drawn = 0
}

func (s *screen) cursor(show bool) {
	if !s.terminal {
		return
	}
	code := hideCursor
	if show {
		code = showCursor
	}
	_, _ = io.WriteString(s.w, code) // a terminal that is gone has no cursor
}

// paint is text in a colour, where colours are wanted.
func (s *screen) paint(code, text string) string {
	if !s.color {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (s *screen) bold(text string) string  { return s.paint("1", text) }
func (s *screen) dim(text string) string   { return s.paint("2", text) }
func (s *screen) red(text string) string   { return s.paint("31", text) }
func (s *screen) green(text string) string { return s.paint("32", text) }
func (s *screen) blue(text string) string  { return s.paint("34", text) }

// barWidth leaves room for a label before and a figure after the bar.
func (s *screen) barWidth() int { return min(40, max(10, s.width-46)) }

// bar is share (0 … 1) of the bar's width, to an eighth of a cell.
func (s *screen) bar(share float64, paint func(string) string) string {
	width := s.barWidth()
	share = min(1, max(0, share))
	eighths := int(math.Round(share * float64(width*8)))
	if share > 0 {
		eighths = max(1, eighths)
	}
	full := strings.Repeat("█", eighths/8)
	if rest := eighths % 8; rest > 0 {
		full += string([]rune("▏▎▍▌▋▊▉")[rest-1])
	}
	empty := strings.Repeat("·", width-utf8.RuneCountInString(full))
	return paint(full) + s.dim(empty)
}

// meter is one line: a label, a bar, and what the bar says in figures.
func (s *screen) meter(label string, share float64, paint func(string) string, figures string) string {
	return fmt.Sprintf("     %-9s %s  %s", label, s.bar(share, paint), figures)
}

// thousands prints a count with separators, 12,345.
func thousands(n int) string {
	text := strconv.Itoa(n)
	if n < 0 {
		return "-" + thousands(-n)
	}
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

func kilobytes(n int64) string { return thousands(int(n+1023)/1024) + " KiB" }

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

func perSecond(f float64) string { return thousands(int(math.Round(f))) + "/s" }
