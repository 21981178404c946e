package promcheck

import (
	"image"
	"image/color"
	"image/png"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// A cell of Grafana's grid, in pixels.
const cellW, cellH = 60, 32

// named is a line with the name that its legend gives it.
type named struct {
	line
	name string
}

// draw draws every dashboard over the scene, a picture each, for people to look at.
func (s *scene) draw(t *testing.T, dir string, from, to time.Time) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, b := range boards(t) {
		bottom := 0
		for _, p := range b.Panels {
			bottom = max(bottom, p.GridPos.Y+p.GridPos.H)
		}
		c := newCanvas(t, 24*cellW, bottom*cellH)
		marks := s.marks(t, b, from, to)
		for _, p := range b.Panels {
			at := image.Rect(p.GridPos.X*cellW, p.GridPos.Y*cellH, (p.GridPos.X+p.GridPos.W)*cellW, (p.GridPos.Y+p.GridPos.H)*cellH)
			if p.Type == "row" {
				c.text(c.plain, at.Min.X+10, at.Max.Y-9, left, ink, p.Title)
				continue
			}
			chart{c, p, at.Inset(3), from, to, s.lines(t, p, from, to), marks}.draw()
		}
		file, err := os.Create(filepath.Join(dir, strings.TrimPrefix(b.UID, "forebay-")+".png"))
		if err != nil {
			t.Fatal(err)
		}
		if err := png.Encode(file, c); err != nil {
			t.Fatal(err)
		}
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// lines are those of all queries of a panel that say something.
func (s *scene) lines(t *testing.T, p boardPanel, from, to time.Time) (list []named) {
	for _, target := range p.Targets {
		var some []named
		for _, l := range s.prom.over(t, filled(target.Expr, interval), from, to) {
			if l.says() {
				some = append(some, named{l, l.name(target.LegendFormat)})
			}
		}
		slices.SortFunc(some, func(a, b named) int { return strings.Compare(a.name, b.name) })
		list = append(list, some...)
	}
	return list
}

// mark is an annotation.
type mark struct {
	at    []time.Time
	color color.RGBA
	spans bool // it lasts
}

func (s *scene) marks(t *testing.T, b board, from, to time.Time) (list []mark) {
	colors := map[string]color.RGBA{"blue": palette[2], "red": red, "purple": violet, "orange": palette[3], "yellow": palette[1]}
	for _, a := range b.Annotations.List {
		for _, l := range s.prom.over(t, filled(a.Expr, interval), from, to) {
			m := mark{l.at, colors[a.IconColor], !a.UseValueForTime}
			if a.UseValueForTime {
				m.at = nil
				for _, v := range l.values {
					m.at = append(m.at, time.UnixMilli(int64(v)))
				}
				m.at = slices.CompactFunc(m.at, time.Time.Equal)
			}
			list = append(list, m)
		}
	}
	return list
}

// chart is one panel on the canvas.
type chart struct {
	*canvas
	p        boardPanel
	at       image.Rectangle
	from, to time.Time
	lines    []named
	marks    []mark
}

func (h chart) draw() {
	h.box(h.at, paper)
	h.text(h.plain, h.at.Min.X+10, h.at.Min.Y+18, left, ink, h.clipped(h.plain, h.p.Title, h.at.Dx()-16))
	switch h.p.Type {
	case "stat":
		h.stat()
	case "table":
		h.table()
	case "state-timeline":
		h.timeline()
	default:
		h.series()
	}
}

func (h chart) stat() {
	text, col := h.p.FieldConfig.Defaults.NoValue, green
	if len(h.lines) > 0 {
		// It is asked at one time, the last.
		if l := h.lines[0].line; h.to.Sub(l.at[len(l.at)-1]) < 2*time.Second {
			v := l.last()
			text = shown(h.p.FieldConfig.Defaults.Unit, v, h.to)
			for _, step := range h.p.FieldConfig.Defaults.Thresholds.Steps {
				if step.Value == nil || v >= *step.Value {
					col = map[string]color.RGBA{"green": green, "red": red}[step.Color]
				}
			}
		}
	}
	h.text(h.large, (h.at.Min.X+h.at.Max.X)/2, (h.at.Min.Y+h.at.Max.Y)/2+20, centre, col, text)
}

func (h chart) table() {
	y := h.at.Min.Y + 40
	for _, l := range h.lines {
		if h.to.Sub(l.at[len(l.at)-1]) > 2*time.Second {
			continue
		}
		var cells []string
		for _, k := range slices.Sorted(maps.Keys(l.labels)) {
			cells = append(cells, k+" "+l.labels[k])
		}
		h.text(h.small, h.at.Min.X+12, y, left, ink, h.clipped(h.small, strings.Join(cells, "    "), h.at.Dx()-24))
		h.box(image.Rect(h.at.Min.X+10, y+7, h.at.Max.X-10, y+8), rule)
		y += 22
	}
}

// x is where a time is in a plot.
func (h chart) x(plot image.Rectangle, at time.Time) float64 {
	return float64(plot.Min.X) + at.Sub(h.from).Seconds()/h.to.Sub(h.from).Seconds()*float64(plot.Dx())
}

func (h chart) times(plot image.Rectangle) {
	for at := h.from.Truncate(30 * time.Second).Add(30 * time.Second); at.Before(h.to); at = at.Add(30 * time.Second) {
		x := int(h.x(plot, at))
		h.box(image.Rect(x, plot.Min.Y, x+1, plot.Max.Y), rule)
		h.text(h.small, x, plot.Max.Y+14, centre, pale, at.UTC().Format("15:04:05"))
	}
}

func (h chart) timeline() {
	wide := 0
	for _, l := range h.lines {
		wide = max(wide, 7*len(l.name))
	}
	plot := image.Rect(h.at.Min.X+min(wide, 190)+20, h.at.Min.Y+30, h.at.Max.X-12, h.at.Max.Y-24)
	h.times(plot)
	tall := min(plot.Dy()/max(1, len(h.lines)), 34)
	for i, l := range h.lines {
		top := plot.Min.Y + i*tall
		h.text(h.small, plot.Min.X-8, top+tall/2+4, right, pale, h.clipped(h.small, l.name, 190))
		for j := 0; j < len(l.at); {
			first := j
			for j++; j < len(l.at) && l.values[j] == l.values[first] && l.at[j].Sub(l.at[j-1]) < 1500*time.Millisecond; j++ {
			}
			if l.values[first] == 1 {
				h.box(image.Rect(int(h.x(plot, l.at[first])), top+3, int(h.x(plot, l.at[j-1].Add(time.Second))), top+tall-3), faint(palette[i%len(palette)], 0.7))
			}
		}
	}
}

// series draws lines over time, a legend with their last and largest values below.
func (h chart) series() {
	unit, legend := h.p.FieldConfig.Defaults.Unit, min(len(h.lines), 5)
	plot := image.Rect(h.at.Min.X+70, h.at.Min.Y+30, h.at.Max.X-12, h.at.Max.Y-26-16*legend)
	stack := h.p.FieldConfig.Defaults.Custom.Stacking.Mode == "normal"
	tops := h.tops(stack)
	most := 0.0
	for _, top := range tops {
		for _, v := range top {
			if !math.IsNaN(v) && !math.IsInf(v, 0) {
				most = max(most, v)
			}
		}
	}
	axis := ticks(unit, most)
	scale := float64(plot.Dy()) / axis[len(axis)-1]
	// What is below 0, as a time that has just passed, is drawn at 0.
	y := func(v float64) float64 { return float64(plot.Max.Y) - max(0, v)*scale }
	for _, v := range axis {
		h.box(image.Rect(plot.Min.X, int(y(v)), plot.Max.X, int(y(v))+1), rule)
		h.text(h.small, plot.Min.X-8, int(y(v))+4, right, pale, shown(unit, v, h.to))
	}
	h.times(plot)
	h.annotate(plot)
	for i, l := range slices.Backward(h.lines) {
		h.curve(plot, y, l.at, tops[i], palette[i%len(palette)], stack)
	}
	h.legend(legend, unit)
}

// tops are the values that are drawn: with those below them where they are stacked.
func (h chart) tops(stack bool) (tops [][]float64) {
	sums := map[int64]float64{}
	for _, l := range h.lines {
		top := slices.Clone(l.values)
		for j := range top {
			if at := l.at[j].Unix(); stack && !math.IsNaN(top[j]) {
				sums[at] += top[j]
				top[j] = sums[at]
			}
		}
		tops = append(tops, top)
	}
	return tops
}

// curve draws the pieces of a line between its gaps.
func (h chart) curve(plot image.Rectangle, y func(float64) float64, at []time.Time, values []float64, col color.RGBA, stack bool) {
	var piece []point
	end := func() {
		if len(piece) > 1 {
			var area color.Color = faint(col, 0.06)
			if stack { // over those above
				area = mixed(col, paper)
			}
			bottom := float64(plot.Max.Y)
			h.fill(append(slices.Clone(piece), point{piece[len(piece)-1].x, bottom}, point{piece[0].x, bottom}), area)
			h.stroke(piece, 1.5, col)
		}
		piece = nil
	}
	for j, v := range values {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			end()
			continue
		}
		if j > 0 && at[j].Sub(at[j-1]) > 1500*time.Millisecond {
			end()
		}
		piece = append(piece, point{h.x(plot, at[j]), y(v)})
	}
	end()
}

func (h chart) annotate(plot image.Rectangle) {
	for _, m := range h.marks {
		for _, at := range m.at {
			x := int(h.x(plot, at))
			switch {
			case at.Before(h.from) || at.After(h.to):
			case m.spans:
				h.box(image.Rect(x, plot.Max.Y-3, int(math.Ceil(h.x(plot, at.Add(time.Second)))), plot.Max.Y), m.color)
			default:
				for top := plot.Min.Y; top < plot.Max.Y; top += 8 {
					h.box(image.Rect(x, top, x+1, top+4), m.color)
				}
			}
		}
	}
}

func (h chart) legend(n int, unit string) {
	for i, l := range h.lines[:n] {
		y := h.at.Max.Y - 8 - 16*(n-1-i)
		h.box(image.Rect(h.at.Min.X+12, y-7, h.at.Min.X+24, y-3), palette[i%len(palette)])
		name := l.name
		if i == n-1 && len(h.lines) > n {
			name = "… and others"
		}
		h.text(h.small, h.at.Min.X+30, y, left, ink, h.clipped(h.small, name, h.at.Dx()-220))
		h.text(h.small, h.at.Max.X-100, y, right, pale, "last "+shown(unit, l.last(), h.to))
		h.text(h.small, h.at.Max.X-12, y, right, pale, "max "+shown(unit, l.most(), h.to))
	}
}
