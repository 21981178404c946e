package promcheck

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// prometheus is a real one.
type prometheus struct{ url string }

// line is one series of an answer.
type line struct {
	labels map[string]string
	at     []time.Time
	values []float64
}

// answer is what the API says.
type answer struct {
	Status, Error string
	Warnings      []string
	Data          json.RawMessage
}

func (p *prometheus) ask(t *testing.T, path string, params url.Values, data any) {
	t.Helper()
	resp, err := http.Get(p.url + path + "?" + params.Encode())
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var a answer
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		t.Fatalf("%s %v: %v", path, params, err)
	}
	if a.Status != "success" || len(a.Warnings) > 0 {
		t.Errorf("%s %v: %s %v", path, params["query"], a.Error, a.Warnings)
	}
	if len(a.Data) > 0 {
		if err := json.Unmarshal(a.Data, data); err != nil {
			t.Fatalf("%s %v: %v", path, params, err)
		}
	}
}

// over asks for all of a stretch of time.
func (p *prometheus) over(t *testing.T, expr string, from, to time.Time) (lines []line) {
	t.Helper()
	var data struct {
		Result []struct {
			Metric map[string]string
			Values [][2]any
		}
	}
	p.ask(t, "/api/v1/query_range", url.Values{
		"query": {expr}, "start": {stamp(from)}, "end": {stamp(to)}, "step": {"1"},
	}, &data)
	for _, r := range data.Result {
		l := line{labels: r.Metric}
		for _, v := range r.Values {
			at, _ := v[0].(float64)
			text, _ := v[1].(string)
			value, err := strconv.ParseFloat(text, 64)
			if err != nil {
				t.Fatalf("%s: %v", expr, err)
			}
			l.at, l.values = append(l.at, time.UnixMilli(int64(at*1000))), append(l.values, value)
		}
		lines = append(lines, l)
	}
	return lines
}

func stamp(t time.Time) string { return fmt.Sprintf("%.3f", float64(t.UnixMilli())/1000) }

// says reports whether there is a number in it.
func (l line) says() bool {
	for _, v := range l.values {
		if !math.IsNaN(v) {
			return true
		}
	}
	return false
}

// last is the newest number; NaN where there is none.
func (l line) last() float64 {
	for _, v := range slices.Backward(l.values) {
		if !math.IsNaN(v) {
			return v
		}
	}
	return math.NaN()
}

// most is the largest number.
func (l line) most() float64 {
	most := math.Inf(-1)
	for _, v := range l.values {
		if !math.IsNaN(v) {
			most = max(most, v)
		}
	}
	return most
}

// name is a legend filled in.
func (l line) name(legend string) string {
	for k, v := range l.labels {
		legend = strings.ReplaceAll(legend, "{{"+k+"}}", v)
	}
	return legend
}

// alerts are those that went through a state, "pending" or "firing", by name and drain.
func (p *prometheus) alerts(t *testing.T, state string, from, to time.Time) map[string][]time.Time {
	t.Helper()
	found := map[string][]time.Time{}
	for _, l := range p.over(t, fmt.Sprintf(`ALERTS{alertstate=%q}`, state), from, to) {
		name := strings.TrimSpace(l.labels["alertname"] + " " + l.labels["drain"])
		found[name] = append(found[name], l.at...)
	}
	return found
}
