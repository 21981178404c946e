package main

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"forebay/cmd/forebay/admin"
)

// wideTop is from how many characters on there is more than one between columns.
const wideTop = 110

// topView is what a frame of top shows.
type topView struct {
	now     time.Time
	url     string
	every   time.Duration
	readAt  time.Time // zero: nothing was read yet
	trouble string    // why nothing newer was; empty: nothing is wrong
	drains  []admin.Drain
	streams []admin.Stream
	inflow  map[string]float64 // messages a second by stream; nil: not known yet
	page    int                // from 0
	byName  bool               // instead of by backlog
}

// column is one of a table; the first takes the room that the others leave.
type column[T any] struct {
	head  string
	width int // to the right where it is below 0, to the left above
	from  int // the narrowest screen that it is shown on
	cell  func(T) string
}

// frame draws the view in lines of at most width characters. With a height it is so
// many lines, of which the tables have a page; without, all rows are in it. pages is
// how many there are.
func (v topView) frame(width, height int) (lines []string, pages int) {
	drains, streams := v.sorted()
	perDrain, perStream := len(drains), len(streams)
	if height > 0 {
		perDrain, perStream = topRooms(height, len(drains), len(streams))
	}
	pages = max(1, pagesOf(len(drains), perDrain), pagesOf(len(streams), perStream))
	page := min(v.page, pages-1)
	lines = append(lines, v.title(width), v.totals(), "")
	lines = append(lines, rows(v.drainColumns(), onPage(drains, page, perDrain), width)...)
	lines = append(lines, "")
	lines = append(lines, rows(v.streamColumns(), onPage(streams, page, perStream), width)...)
	if height > 0 {
		for len(lines) < height-1 {
			lines = append(lines, "")
		}
		lines = append(lines[:max(0, height-1)], v.foot(page, pages))
	}
	for i, line := range lines {
		lines[i] = strings.TrimRight(clip(line, width), " ")
	}
	return lines, pages
}

// topRooms is how many rows the tables have: streams a third of them, unless one has
// too few for its part.
func topRooms(height, drains, streams int) (perDrain, perStream int) {
	const around = 7 // title, totals, headings, blank lines, foot
	room := max(2, height-around)
	perStream = max(min(streams, room/3), room-drains, 1)
	return max(1, room-perStream), perStream
}

func pagesOf(n, per int) int { return (n + max(1, per) - 1) / max(1, per) }

func onPage[T any](all []T, page, per int) []T {
	from := min(page*per, len(all))
	return all[from:min(from+per, len(all))]
}

// sorted has the longest backlog first, or the names in order.
func (v topView) sorted() ([]admin.Drain, []admin.Stream) {
	drains, streams := slices.Clone(v.drains), slices.Clone(v.streams)
	slices.SortFunc(drains, func(a, b admin.Drain) int {
		if c := cmp.Compare(b.Buffered(), a.Buffered()); c != 0 && !v.byName {
			return c
		}
		return cmp.Compare(a.Name, b.Name)
	})
	slices.SortFunc(streams, func(a, b admin.Stream) int {
		if c := cmp.Compare(b.Messages, a.Messages); c != 0 && !v.byName {
			return c
		}
		return cmp.Compare(a.Name, b.Name)
	})
	return drains, streams
}

func (v topView) title(width int) string {
	left := "forebay top  " + v.url
	right := fmt.Sprintf("%s  every %v", v.now.Format("15:04:05"), v.every)
	return pad(left, width-utf8.RuneCountInString(right)-1) + " " + right
}

func (v topView) totals() string {
	if v.trouble != "" {
		if v.readAt.IsZero() {
			return "NOTHING READ YET: " + v.trouble
		}
		return fmt.Sprintf("FROM %s: %s", strings.ToUpper(ago(v.now, v.readAt)), v.trouble)
	}
	if v.readAt.IsZero() {
		return "reading …"
	}
	var waiting, dead uint64
	var out, in float64
	for _, d := range v.drains {
		waiting, dead, out = waiting+d.Buffered(), dead+d.Dead, out+d.ActualRate
	}
	for _, rate := range v.inflow {
		in += rate
	}
	accepted := "-"
	if v.inflow != nil {
		accepted = admin.Rate(in).String()
	}
	return fmt.Sprintf("%s, %s   in %s, out %s   waiting %s, dead %s", counted(len(v.streams), "stream"), counted(len(v.drains), "drain"),
		accepted, admin.Rate(out), compact(waiting), compact(dead))
}

func (v topView) foot(page, pages int) string {
	order := "s by name"
	if v.byName {
		order = "s by backlog"
	}
	if pages == 1 {
		return order + "  q quit"
	}
	return fmt.Sprintf("page %d of %d  n next  p previous  %s  q quit", page+1, pages, order)
}

func (v topView) drainColumns() []column[admin.Drain] {
	return []column[admin.Drain]{
		{head: "DRAIN", cell: func(d admin.Drain) string { return d.Name }},
		{head: "SINK", width: 20, from: 150, cell: func(d admin.Drain) string { return d.Sink }},
		{head: "STATE", width: 8, cell: func(d admin.Drain) string { return d.State }},
		{head: "WAITING", width: -7, cell: func(d admin.Drain) string { return compact(d.Buffered()) }},
		{head: "DEAD", width: -6, from: wideTop, cell: func(d admin.Drain) string { return compact(d.Dead) }},
		{head: "RATE", width: -8, cell: func(d admin.Drain) string { return admin.Rate(d.ActualRate).String() }},
		{head: "PERMITTED", width: -9, cell: func(d admin.Drain) string { return d.PermittedRate.String() }},
		{head: "HELD BY", width: 12, cell: func(d admin.Drain) string { return d.Binding }},
		{head: "EMPTY IN", width: -8, cell: func(d admin.Drain) string { return v.in(d.EmptyAt) }},
		{head: "THEN", width: 19, from: 120, cell: func(d admin.Drain) string { return v.then(d.NextChange) }},
	}
}

func (v topView) streamColumns() []column[admin.Stream] {
	return []column[admin.Stream]{
		{head: "STREAM", cell: func(s admin.Stream) string { return s.Name }},
		{head: "STATE", width: 8, cell: func(s admin.Stream) string { return s.State }},
		{head: "WAITING", width: -7, cell: func(s admin.Stream) string { return compact(s.Messages) }},
		{head: "IN", width: -8, cell: func(s admin.Stream) string { return v.arriving(s.Name) }},
		{head: "SIZE", width: -10, cell: func(s admin.Stream) string { return bytesText(s.Bytes) }},
		{head: "CAPACITY", width: -10, cell: func(s admin.Stream) string { return capacityText(s.CapacityBytes) }},
		{head: "FULL IN", width: -7, cell: func(s admin.Stream) string { return v.in(s.FullAt) }},
		{head: "OLDEST", width: -10, from: wideTop, cell: func(s admin.Stream) string { return ago(v.now, s.OldestAcceptedAt.Time) }},
	}
}

func (v topView) in(t admin.Time) string { return strings.TrimPrefix(until(v.now, t.Time), "in ") }

func (v topView) arriving(stream string) string {
	if rate, ok := v.inflow[stream]; ok {
		return admin.Rate(rate).String()
	}
	return "-"
}

// then is the next change of a drain's rate.
func (v topView) then(c *admin.Change) string {
	if c == nil {
		return "-"
	}
	return c.Rate.String() + " " + until(v.now, c.At.Time)
}

func capacityText(b admin.Bound) string {
	if b == 0 {
		return "unlimited"
	}
	return bytesText(int64(b))
}

// rows draws a table of that width.
func rows[T any](columns []column[T], all []T, width int) []string {
	gap := 1
	if width >= wideTop {
		gap = 2
	}
	columns = slices.DeleteFunc(columns, func(c column[T]) bool { return width < c.from })
	columns[0].width = width
	for _, c := range columns[1:] {
		columns[0].width -= gap + max(c.width, -c.width)
	}
	columns[0].width = max(columns[0].width, 8)
	draw := func(cell func(column[T]) string) string {
		cells := make([]string, len(columns))
		for i, c := range columns {
			cells[i] = pad(cell(c), c.width)
		}
		return strings.Join(cells, strings.Repeat(" ", gap))
	}
	lines := []string{draw(func(c column[T]) string { return c.head })}
	for _, one := range all {
		lines = append(lines, draw(func(c column[T]) string { return c.cell(one) }))
	}
	return lines
}

// pad fits text into a column; below 0 it stands to the right.
func pad(text string, width int) string {
	right := width < 0
	width = max(width, -width)
	text = clip(text, width)
	blank := strings.Repeat(" ", width-utf8.RuneCountInString(text))
	if right {
		return blank + text
	}
	return text + blank
}

// clip cuts text that is longer than width.
func clip(text string, width int) string {
	if utf8.RuneCountInString(text) <= width {
		return text
	}
	if width < 1 {
		return ""
	}
	return string([]rune(text)[:width-1]) + "…"
}

// compact is a count of at most six characters.
func compact(n uint64) string {
	if n < 1000 {
		return number(n)
	}
	if n < 100_000 {
		return fmt.Sprintf("%d,%03d", n/1000, n%1000)
	}
	v, unit := float64(n)/1000, "k"
	for _, u := range []string{"M", "G", "T"} {
		if v < 999.5 {
			break
		}
		v, unit = v/1000, u
	}
	digits := 1
	if v >= 99.95 {
		digits = 0
	}
	return strconv.FormatFloat(v, 'f', digits, 64) + unit
}
