package promcheck

import (
	"image"
	"image/color"
	"image/draw"
	"math"
	"testing"

	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/gomedium"
	"golang.org/x/image/font/gofont/goregular"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/math/fixed"
	"golang.org/x/image/vector"
)

var (
	back   = color.RGBA{17, 18, 23, 255}
	paper  = color.RGBA{24, 27, 31, 255}
	rule   = color.RGBA{44, 48, 54, 255}
	pale   = color.RGBA{142, 146, 160, 255}
	ink    = color.RGBA{216, 217, 224, 255}
	green  = color.RGBA{115, 191, 105, 255}
	red    = color.RGBA{242, 73, 92, 255}
	violet = color.RGBA{184, 119, 217, 255}
)

// palette tells lines apart, in the order that Grafana's classic one has.
var palette = []color.RGBA{
	green,
	{242, 204, 12, 255},
	{87, 148, 242, 255},
	{255, 152, 48, 255},
	red, violet,
	{138, 184, 255, 255},
	{150, 217, 141, 255},
	{255, 166, 176, 255},
	{112, 94, 219, 255},
	{255, 238, 82, 255},
	{127, 127, 127, 255},
}

// canvas draws with smooth edges.
type canvas struct {
	*image.RGBA
	small, plain, large font.Face
}

func newCanvas(t *testing.T, w, h int) *canvas {
	t.Helper()
	face := func(data []byte, size float64) font.Face {
		f, err := opentype.Parse(data)
		if err != nil {
			t.Fatal(err)
		}
		face, err := opentype.NewFace(f, &opentype.FaceOptions{Size: size, DPI: 72, Hinting: font.HintingFull})
		if err != nil {
			t.Fatal(err)
		}
		return face
	}
	c := &canvas{image.NewRGBA(image.Rect(0, 0, w, h)), face(goregular.TTF, 11), face(gomedium.TTF, 13), face(gomedium.TTF, 26)}
	c.box(c.Bounds(), back)
	return c
}

func (c *canvas) box(r image.Rectangle, col color.Color) {
	draw.Draw(c, r, image.NewUniform(col), image.Point{}, draw.Over)
}

// text is written from a point on its base line; centred around it, or ending at it.
type align float64

const (
	left   align = 0
	centre align = 0.5
	right  align = 1
)

func (c *canvas) text(face font.Face, x, y int, at align, col color.Color, s string) {
	w := font.MeasureString(face, s)
	d := font.Drawer{Dst: c, Src: image.NewUniform(col), Face: face, Dot: fixed.P(x, y)}
	d.Dot.X -= fixed.Int26_6(float64(w) * float64(at))
	d.DrawString(s)
}

// clipped is a text that fits into a width.
func (c *canvas) clipped(face font.Face, s string, width int) string {
	for short := []rune(s); len(short) > 1; short = short[:len(short)-1] {
		if font.MeasureString(face, s).Ceil() <= width {
			return s
		}
		s = string(short[:len(short)-1]) + "…"
	}
	return s
}

type point struct{ x, y float64 }

// fill fills an outline.
func (c *canvas) fill(outline []point, col color.Color) {
	p := c.pen(outline)
	p.polygon(outline...)
	p.draw(col)
}

// pen draws within the bounds of what is to be drawn: that is a small part of a page.
type pen struct {
	*vector.Rasterizer
	on *canvas
	at image.Rectangle
}

func (c *canvas) pen(points []point) pen {
	var r image.Rectangle
	for _, p := range points {
		x, y := int(p.x), int(p.y)
		r = r.Union(image.Rect(x-3, y-3, x+4, y+4))
	}
	r = r.Intersect(c.Bounds())
	return pen{vector.NewRasterizer(r.Dx(), r.Dy()), c, r}
}

func (p pen) polygon(points ...point) {
	for i, q := range points {
		x, y := float32(q.x)-float32(p.at.Min.X), float32(q.y)-float32(p.at.Min.Y)
		if i == 0 {
			p.MoveTo(x, y)
		} else {
			p.LineTo(x, y)
		}
	}
	p.ClosePath()
}

func (p pen) draw(col color.Color) { p.Draw(p.on, p.at, image.NewUniform(col), image.Point{}) }

// stroke draws a line through points.
func (c *canvas) stroke(points []point, width float64, col color.Color) {
	pen := c.pen(points)
	for i := 1; i < len(points); i++ {
		p, q := points[i-1], points[i]
		dx, dy := q.x-p.x, q.y-p.y
		length := math.Hypot(dx, dy)
		if length == 0 {
			continue
		}
		nx, ny := -dy/length*width/2, dx/length*width/2
		ex, ey := dx/length*width/4, dy/length*width/4 // so that joints have no gap
		pen.polygon(point{p.x + nx - ex, p.y + ny - ey}, point{q.x + nx + ex, q.y + ny + ey}, point{q.x - nx + ex, q.y - ny + ey}, point{p.x - nx - ex, p.y - ny - ey})
	}
	pen.draw(col)
}

// faint is a color through which what is below shows.
func faint(c color.RGBA, share float64) color.NRGBA {
	return color.NRGBA{c.R, c.G, c.B, uint8(255 * share)}
}

// mixed is one part of a color in two of another.
func mixed(a, b color.RGBA) color.RGBA {
	mix := func(x, y uint8) uint8 { return uint8((int(x) + 2*int(y)) / 3) }
	return color.RGBA{mix(a.R, b.R), mix(a.G, b.G), mix(a.B, b.B), 255}
}
