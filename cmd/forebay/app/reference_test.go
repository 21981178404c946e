package app

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

//go:generate go test -run ^TestMetricsReference$ -count=1 . -update

var update = flag.Bool("update", false, "write testdata/metrics.txt and the tables of docs/metrics.md")

const (
	metricsList = "testdata/metrics.txt"
	metricsPage = "../../../docs/metrics.md"
)

// metric is what the registry says of one of ours.
type metric struct{ name, kind, labels, help string }

func (m metric) line() string {
	return strings.Join([]string{m.name, m.kind, "{" + m.labels + "}", m.help}, " ")
}

func (m metric) row() string {
	labels := ""
	if m.labels != "" {
		labels = "`" + strings.ReplaceAll(m.labels, ",", "`, `") + "`"
	}
	return fmt.Sprintf("| `%s` | %s | %s | %s |", m.name, m.kind, labels, m.help)
}

// described is what a descriptor says in its only public form.
var described = regexp.MustCompile(`^Desc\{fqName: "(forebay_\w+)", help: "(.*?)"(?:, unit: "")?, constLabels: \{\}, variableLabels: \{([\w,]*)\}\}$`)

// kindOf is a metric's type. One of which there is no series yet, since the policy does not
// have what it counts, says it by its name.
func kindOf(name string, kinds map[string]string) string {
	switch kind := kinds[name]; {
	case kind != "":
		return kind
	case strings.HasSuffix(name, "_total"):
		return "counter"
	default:
		return "gauge"
	}
}

// metricsOf are our metrics in the order of their names.
func metricsOf(t *testing.T, reg *prometheus.Registry) (list []metric) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]string{}
	for _, f := range families {
		kinds[f.GetName()] = strings.ToLower(f.GetType().String())
	}
	descs := make(chan *prometheus.Desc)
	go func() {
		defer close(descs)
		reg.Describe(descs)
	}()
	for d := range descs {
		m := described.FindStringSubmatch(d.String())
		if m == nil {
			continue // the Go program's
		}
		list = append(list, metric{m[1], kindOf(m[1], kinds), m[3], m[2]})
	}
	slices.SortFunc(list, func(a, b metric) int { return strings.Compare(a.name, b.name) })
	return list
}

// TestMetricsReference pins every metric of a running program: its name, type, labels and
// help. Dashboards and alerts rely on them: a name that goes is a breaking change. The
// tables of docs/metrics.md are made from them.
func TestMetricsReference(t *testing.T) {
	s := newShop(t)
	r := start(t, policyText(s.url, "1000/s")+unreachableSource)
	list := metricsOf(t, r.reg)
	var lines strings.Builder
	for _, m := range list {
		fmt.Fprintln(&lines, m.line())
	}
	page, err := os.ReadFile(metricsPage)
	if err != nil {
		t.Fatal(err)
	}
	tables, err := withTables(page, list)
	if err != nil {
		t.Fatal(err)
	}
	wantFile(t, metricsList, lines.String())
	wantFile(t, metricsPage, string(tables))
	problems, err := testutil.GatherAndLint(r.reg)
	if err != nil || len(problems) > 0 {
		t.Errorf("GatherAndLint = %v, %v", problems, err)
	}
}

// wantFile compares a file with what it is to hold, or writes it.
func wantFile(t *testing.T, path, want string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(got), want); diff != "" {
		t.Errorf("%s is not what the registry says; make generate writes it (-file +registry):\n%s", path, diff)
	}
}

var table = regexp.MustCompile(`(?s)<!-- generated from (.*?) -->\n.*?<!-- end -->`)

// withTables is a page with the tables between its marks made anew: of the metrics whose
// names begin, after forebay_, as a mark says. Each metric has to be in one table.
func withTables(page []byte, list []metric) ([]byte, error) {
	told := map[string]int{}
	page = table.ReplaceAllFunc(page, func(old []byte) []byte {
		prefixes := strings.Fields(string(table.FindSubmatch(old)[1]))
		var b bytes.Buffer
		fmt.Fprintf(&b, "<!-- generated from %s -->\n| metric | type | labels | meaning |\n|---|---|---|---|\n", strings.Join(prefixes, " "))
		for _, m := range list {
			if slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(m.name, "forebay_"+p) }) {
				told[m.name]++
				fmt.Fprintln(&b, m.row())
			}
		}
		b.WriteString("<!-- end -->")
		return b.Bytes()
	})
	for _, m := range list {
		if n := told[m.name]; n != 1 {
			return nil, fmt.Errorf("%s is in %d tables of %s, want 1", m.name, n, metricsPage)
		}
	}
	return page, nil
}

func TestWithTables(t *testing.T) {
	list := []metric{{"forebay_a_b", "gauge", "x,y", "How many."}, {"forebay_a_c", "counter", "", "Others."}}
	const page = "# A\n\n<!-- generated from a_ -->\nold\n<!-- end -->\n\nrest\n"
	const want = "# A\n\n<!-- generated from a_ -->\n| metric | type | labels | meaning |\n|---|---|---|---|\n" +
		"| `forebay_a_b` | gauge | `x`, `y` | How many. |\n| `forebay_a_c` | counter |  | Others. |\n<!-- end -->\n\nrest\n"
	got, err := withTables([]byte(page), list)
	if diff := cmp.Diff(want, string(got)); err != nil || diff != "" {
		t.Errorf("withTables: %v (-want +got):\n%s", err, diff)
	}
	for _, bad := range []string{"no table", page + page} {
		if _, err := withTables([]byte(bad), list); err == nil {
			t.Errorf("withTables(%q) has no objection", bad)
		}
	}
}
