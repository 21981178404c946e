package promcheck

import (
	"fmt"
	"math"
	"strconv"
	"testing"
	"time"
)

// shown is a value as Grafana shows it in a unit.
func shown(unit string, v float64, now time.Time) string {
	switch unit {
	case "s":
		return seconds(v)
	case "bytes":
		return scaled(v, 1024, "B", "KiB", "MiB", "GiB", "TiB")
	case "percentunit":
		return trimmed(100*v) + " %"
	case "dateTimeFromNow":
		left := v/1000 - float64(now.Unix())
		if left < 0 {
			return seconds(-left) + " ago"
		}
		return "in " + seconds(left)
	case "mps", "reqps", "ops", "cps":
		return scaled(v, 1000, "", "K", "M", "G") + map[string]string{"mps": " msg/s", "reqps": " req/s", "ops": " ops/s", "cps": " c/s"}[unit]
	default:
		return scaled(v, 1000, "", "K", "M", "G")
	}
}

func scaled(v, by float64, names ...string) string {
	i := 0
	for math.Abs(v) >= by && i < len(names)-1 {
		v, i = v/by, i+1
	}
	if names[i] == "" {
		return trimmed(v)
	}
	return trimmed(v) + " " + names[i]
}

func seconds(v float64) string {
	switch {
	case v != 0 && math.Abs(v) < 0.001:
		return trimmed(v*1e6) + " µs"
	case v != 0 && math.Abs(v) < 1:
		return trimmed(v*1000) + " ms"
	case math.Abs(v) < 120:
		return trimmed(v) + " s"
	case math.Abs(v) < 7200:
		return trimmed(v/60) + " min"
	case math.Abs(v) < 48*3600:
		return trimmed(v/3600) + " h"
	case math.Abs(v) < 730*86400:
		return trimmed(v/86400) + " days"
	default:
		return trimmed(v/365/86400) + " years"
	}
}

// trimmed has three digits, and no zeros behind the point.
func trimmed(v float64) string {
	digits := 2
	if v != 0 {
		digits = min(max(2-int(math.Floor(math.Log10(math.Abs(v)))), 0), 3)
	}
	text := strconv.FormatFloat(v, 'f', digits, 64)
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return text
	}
	return strconv.FormatFloat(f, 'f', -1, 64)
}

func TestShown(t *testing.T) {
	now := time.Unix(1000, 0)
	for _, tt := range []struct {
		unit string
		v    float64
		want string
	}{
		{"s", 0.00021, "210 µs"},
		{"s", 0.05, "50 ms"},
		{"s", 90, "90 s"},
		{"s", 600, "10 min"},
		{"s", 36000, "10 h"},
		{"s", 0, "0 s"},
		{"bytes", 1 << 30, "1 GiB"},
		{"percentunit", 0.125, "12.5 %"},
		{"mps", 1234, "1.23 K msg/s"},
		{"short", 12, "12"},
		{"dateTimeFromNow", 1060000, "in 60 s"},
		{"dateTimeFromNow", 940000, "60 s ago"},
	} {
		if got := shown(tt.unit, tt.v, now); got != tt.want {
			t.Errorf("%s %v = %q, want %q", tt.unit, tt.v, got, tt.want)
		}
	}
	for unit, want := range map[string]string{"short": "[0 2500 5000 7500 10000]", "bytes": "[0 2560 5120 7680 10240]", "s": "[0 3600 7200 10800]"} {
		if got := fmt.Sprint(ticks(unit, 9700)); got != want {
			t.Errorf("ticks up to 9700 of %s: %s, want %s", unit, got, want)
		}
	}
}

// ticks are the marks of an axis from 0 to at least a value, round ones in its unit.
func ticks(unit string, most float64) (list []float64) {
	if !(most > 0) || math.IsInf(most, 0) {
		most = 1
	}
	scale := 1.0
	switch {
	case unit == "bytes":
		for ; most >= 1024*scale; scale *= 1024 {
		}
	case unit == "s" && most >= 48*3600:
		scale = 86400
	case unit == "s" && most >= 7200:
		scale = 3600
	case unit == "s" && most >= 120:
		scale = 60
	}
	most /= scale
	step := math.Pow(10, math.Floor(math.Log10(most/4)))
	for _, by := range []float64{1, 2, 2.5, 5, 10} {
		if 4*step*by >= most {
			step *= by
			break
		}
	}
	for v := 0.0; ; v += step {
		if list = append(list, v*scale); v >= most-step/1e6 {
			return list
		}
	}
}
