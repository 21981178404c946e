package main_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// metricList is the list that the tests of app hold the registry to.
const metricList = "app/testdata/metrics.txt"

var (
	// metricRow is a row of a table that defines a metric.
	metricRow = regexp.MustCompile("(?m)^\\| `(forebay_[a-z_]+)` \\| \\w+ \\|")
	// metricName is a metric wherever a page names it, in a query for instance.
	metricName = regexp.MustCompile(`\bforebay_[a-z_]+\b`)
	// histogramSeries is what a histogram adds to its name.
	histogramSeries = regexp.MustCompile(`_(bucket|sum|count)$`)
)

// docs/metrics.md defines every metric once and no other; and no
// page names one that is not there.
func TestDocsMetrics(t *testing.T) {
	names := metricNames(t)
	var got []string
	for _, row := range metricRow.FindAllStringSubmatch(readText(t, "../../docs/metrics.md"), -1) {
		got = append(got, row[1])
	}
	slices.Sort(got)
	if diff := cmp.Diff(names, got); diff != "" {
		t.Errorf("docs/metrics.md and %s (-registry +page):\n%s", metricList, diff)
	}
	for _, path := range docPages(t) {
		for _, name := range metricName.FindAllString(readText(t, path), -1) {
			if !slices.Contains(names, name) && !slices.Contains(names, histogramSeries.ReplaceAllString(name, "")) {
				t.Errorf("%s names %s, which is no metric", filepath.Base(path), name)
			}
		}
	}
}

// metricNames are those of the registry.
func metricNames(t *testing.T) (names []string) {
	t.Helper()
	for line := range strings.Lines(readText(t, metricList)) {
		name, _, _ := strings.Cut(line, " ")
		names = append(names, name)
	}
	return names
}

// docPages are the README, and what is under docs.
func docPages(t *testing.T) []string {
	t.Helper()
	pages := []string{"../../README.md"}
	for _, pattern := range []string{"../../docs/*.md", "../../docs/runbooks/*.md", "../../examples/*/README.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("no pages at %s: %v", pattern, err)
		}
		pages = append(pages, found...)
	}
	return pages
}

// problemSources are the files in which problems get their type or reason.
var problemSources = []string{"../../ingress/problem.go", "admin/admin.go", "admin/guard.go", "admin/problem.go"}

var (
	typeOnPage = regexp.MustCompile(`urn:forebay:problem:[a-z-]+|https://iana\.org/assignments/http-problem-types#[a-z-]+`)
	reasonRow  = regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\|")
)

// docs/problems.md has every problem type and every reason, and no other.
func TestDocsProblems(t *testing.T) {
	page := readText(t, "../../docs/problems.md")
	_, reasons, ok := strings.Cut(page, "| `reason` | when |")
	if !ok {
		t.Fatal("docs/problems.md has no table of reasons")
	}
	reasons, _, _ = strings.Cut(reasons, "\n\n")
	var gotReasons []string
	for _, row := range reasonRow.FindAllStringSubmatch(reasons, -1) {
		gotReasons = append(gotReasons, row[1])
	}
	wantTypes, wantReasons := problemsInSource(t)
	if diff := cmp.Diff(wantTypes, sorted(typeOnPage.FindAllString(page, -1))); diff != "" {
		t.Errorf("types of problems (-source +page):\n%s", diff)
	}
	if diff := cmp.Diff(wantReasons, sorted(gotReasons)); diff != "" {
		t.Errorf("reasons of a 503 (-source +page):\n%s", diff)
	}
}

// problemsInSource finds problemPrefix + "name", urn("name"), and the constants
// whose names say that they are a type or a reason.
func problemsInSource(t *testing.T) (types, reasons []string) {
	t.Helper()
	const prefix = "urn:forebay:problem:"
	for _, path := range problemSources {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.BinaryExpr:
				if left, ok := n.X.(*ast.Ident); ok && left.Name == "problemPrefix" {
					types = append(types, prefix+literal(t, n.Y))
				}
			case *ast.CallExpr:
				if f, ok := n.Fun.(*ast.Ident); ok && f.Name == "urn" {
					types = append(types, prefix+literal(t, n.Args[0]))
				}
			case *ast.ValueSpec:
				switch name := n.Names[0].Name; {
				case strings.HasPrefix(name, "reason"):
					reasons = append(reasons, literal(t, n.Values[0]))
				case strings.HasPrefix(name, "problem") && name != "problemPrefix":
					types = append(types, literal(t, n.Values[0]))
				}
			}
			return true
		})
	}
	if len(types) == 0 || len(reasons) == 0 {
		t.Fatalf("%d types and %d reasons in %v: they are made in another way now", len(types), len(reasons), problemSources)
	}
	return sorted(types), sorted(reasons)
}

// literal is the text of a string in the source.
func literal(t *testing.T, x ast.Expr) string {
	t.Helper()
	lit, ok := x.(*ast.BasicLit)
	if !ok {
		t.Fatalf("%T is not a string: the names of problems are to be found by reading", x)
	}
	s, err := strconv.Unquote(lit.Value)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func sorted(list []string) []string {
	list = slices.Sorted(slices.Values(list))
	return slices.Compact(list)
}

func readText(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
