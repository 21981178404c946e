package promcheck

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

const root = "../.." // of the repository

// board is what is asked of and drawn from a committed dashboard.
type board struct {
	UID, Title  string
	Annotations struct {
		List []struct {
			Name, Expr, IconColor string
			UseValueForTime       bool
		}
	}
	Panels []boardPanel
}

type boardPanel struct {
	Type, Title string
	GridPos     struct{ X, Y, W, H int }
	Targets     []struct {
		Expr, LegendFormat string
		Instant            bool
	}
	FieldConfig struct {
		Defaults struct {
			Unit, NoValue string
			Custom        struct{ Stacking struct{ Mode string } }
			Thresholds    struct {
				Steps []struct {
					Color string
					Value *float64
				}
			}
		}
	}
}

func boards(t *testing.T) []board {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(root, "dashboards", "*.json"))
	if err != nil || len(names) != 5 {
		t.Fatalf("dashboards: %v, %v", names, err)
	}
	var list []board
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var b board
		if err := json.Unmarshal(text, &b); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		list = append(list, b)
	}
	return list
}

var variable = regexp.MustCompile(`\$\{?(\w+)\}?`)

// filled is a query with the variables as Grafana fills them in when all is chosen.
func filled(expr, interval string) string {
	return variable.ReplaceAllStringFunc(expr, func(v string) string {
		if strings.Trim(v, "${}") == "__rate_interval" {
			return interval
		}
		return ".+"
	})
}

func parsed(t *testing.T, expr string) parser.Expr {
	t.Helper()
	x, err := parser.NewParser(parser.Options{}).ParseExpr(expr)
	if err != nil {
		t.Fatalf("%s\n%v", expr, err)
	}
	return x
}

// excepted are selectors that break a rule, with the reason.
var excepted = map[string]string{
	"forebay_buffer_corrupt_blocks_total": "what was found at the start is there at the first scrape: its rate would be 0",
}

// The PromQL rules of Grafana's dashboard-linter, for panels and annotations: it parses,
// every selector takes the job and the instance that are chosen, counters are only ever
// rates, and rates take $__rate_interval.
func TestPromQL(t *testing.T) {
	used := map[string]bool{}
	for _, b := range boards(t) {
		check := func(where, expr string) {
			t.Helper()
			for _, mistake := range lint(t, expr, used) {
				t.Errorf("%s: %s: %s", b.UID, where, mistake)
			}
		}
		for _, p := range b.Panels {
			for _, target := range p.Targets {
				check(p.Title, target.Expr)
			}
		}
		for _, a := range b.Annotations.List {
			check(a.Name, a.Expr)
		}
	}
	for name := range excepted {
		if !used[name] {
			t.Errorf("no query needs the exception for %s", name)
		}
	}
}

func lint(t *testing.T, expr string, used map[string]bool) (mistakes []string) {
	t.Helper()
	const interval = "1h13m" // that nobody writes
	for _, fixed := range regexp.MustCompile(`\[([^\]]*)\]`).FindAllStringSubmatch(expr, -1) {
		if fixed[1] != "$__rate_interval" {
			mistakes = append(mistakes, "a range of "+fixed[1])
		}
	}
	parser.Inspect(parsed(t, filled(expr, interval)), func(node parser.Node, path []parser.Node) error {
		v, ok := node.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		for _, label := range []string{"job", "instance"} {
			if !strings.Contains(expr, label+`=~"$`+label+`"`) || !matches(v, label) {
				mistakes = append(mistakes, v.Name+" does not take the "+label)
			}
		}
		if strings.HasSuffix(v.Name, "_total") && !rated(path) {
			if used[v.Name] = true; excepted[v.Name] == "" {
				mistakes = append(mistakes, v.Name+" is a counter without a rate")
			}
		}
		return nil
	})
	return mistakes
}

func matches(v *parser.VectorSelector, label string) bool {
	for _, m := range v.LabelMatchers {
		if m.Name == label && m.Type == labels.MatchRegexp && m.Value == ".+" {
			return true
		}
	}
	return false
}

func rated(path []parser.Node) bool {
	for _, node := range path {
		if call, ok := node.(*parser.Call); ok && (call.Func.Name == "rate" || call.Func.Name == "increase" || call.Func.Name == "irate") {
			return true
		}
	}
	return false
}

// The rules find what they are for.
func TestLintFinds(t *testing.T) {
	for expr, want := range map[string]string{
		`rate(a_total{job=~"$job",instance=~"$instance"}[5m])`:               "a range of 5m",
		`rate(a_total{job=~"$job"}[$__rate_interval])`:                       "a_total does not take the instance",
		`a_total{job=~"$job",instance=~"$instance"}`:                         "a_total is a counter without a rate",
		`rate(a_total{job=~"$job",instance=~"$instance"}[$__rate_interval])`: "",
	} {
		if got := strings.Join(lint(t, expr, map[string]bool{}), ", "); got != want {
			t.Errorf("%s: %q, want %q", expr, got, want)
		}
	}
}

// selected are the names of the metrics that a query asks for.
func selected(expr string) []string {
	return regexp.MustCompile(`\b[a-z]+_[a-z_]+\b`).FindAllString(expr, -1)
}
