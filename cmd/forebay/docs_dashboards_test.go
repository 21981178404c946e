package main_test

import (
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"forebay/dashboards"
)

// notBuilt are metrics that dashboards and rules ask for before there is what they count,
// so that they show it from the day there is.
var notBuilt = map[string]string{
	"forebay_certificate_expiry_timestamp_seconds": "listeners have no TLS yet",
}

// ruleName is what a recording rule calls what it makes, level:metric:operations.
var ruleName = regexp.MustCompile(`\w+:\w+:\w+`)

// Dashboards and rules name no metric that is not there, but those of notBuilt, and the
// dashboards leave none out.
func TestDashboardsNameMetrics(t *testing.T) {
	names := metricNames(t)
	asked := map[string]bool{}
	for name, text := range exported(t) {
		for _, metric := range metricName.FindAllString(ruleName.ReplaceAllString(text, ""), -1) {
			if !slices.Contains(names, metric) {
				metric = histogramSeries.ReplaceAllString(metric, "")
			}
			if !slices.Contains(names, metric) && notBuilt[metric] == "" {
				t.Errorf("%s asks for %s, which is no metric", name, metric)
			}
			asked[metric] = asked[metric] || strings.HasSuffix(name, ".json")
		}
	}
	for _, metric := range names {
		if !asked[metric] {
			t.Errorf("no dashboard shows %s", metric)
		}
	}
	for metric := range notBuilt {
		if slices.Contains(names, metric) || !asked[metric] {
			t.Errorf("%s is there now, or nothing asks for it: notBuilt is not true any more", metric)
		}
	}
}

// exported are the dashboards and rules in the program.
func exported(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{}
	err := fs.WalkDir(dashboards.Files(), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := fs.ReadFile(dashboards.Files(), name)
		texts[name] = string(text)
		return err
	})
	if err != nil || len(texts) != 7 {
		t.Fatalf("%d dashboards and rules, %v", len(texts), err)
	}
	return texts
}

var alertRule = regexp.MustCompile(`(?m)^ +- alert: (\w+)\n(?:.*\n)*? +runbook_url: (\S+)$`)

// Every alert has a runbook, every runbook an alert, and all have the same parts.
func TestRunbooks(t *testing.T) {
	alerts := alertRule.FindAllStringSubmatch(exported(t)["rules/alerts.yaml"], -1)
	if len(alerts) < 16 {
		t.Fatalf("%d alerts found", len(alerts))
	}
	var want []string
	for _, a := range alerts {
		want = append(want, a[2])
		page := readText(t, filepath.Join("../..", a[2]))
		if a[2] != "docs/runbooks/"+a[1]+".md" || !strings.HasPrefix(page, "# "+a[1]+"\n") {
			t.Errorf("the runbook of %s is %s", a[1], a[2])
		}
		at := 0
		for _, part := range []string{"## Meaning\n", "## Impact\n", "## Diagnosis\n", "## Mitigation\n"} {
			i := strings.Index(page, part)
			if i <= at {
				t.Errorf("%s has no %q, or in another order", a[2], strings.TrimSpace(part))
			}
			at = i
		}
	}
	found, err := filepath.Glob("../../docs/runbooks/Forebay*.md")
	if err != nil || len(found) != len(want) {
		t.Errorf("%d runbooks for %d alerts, %v", len(found), len(want), err)
	}
}

// The commands of the runbooks are run, all of them against one server: that of the
// README, whose names they use.
func TestRunbookCommands(t *testing.T) {
	p, ran := newPage(t), 0
	for _, b := range parseBlocks(readText(t, "../../README.md")) {
		if b.arg == "shop.yaml" || strings.HasPrefix(b.text, "forebay serve") {
			p.do(b)
		}
	}
	for _, path := range docPages(t) {
		if !strings.Contains(path, "/runbooks/Forebay") {
			continue
		}
		for _, b := range parseBlocks(readText(t, path)) {
			ran++
			if b.lang != "sh" || b.arg != "" {
				t.Errorf("%s: line %d is not run", path, b.line)
			}
			p.do(b)
		}
		if t.Failed() {
			t.Fatalf("in %s", path)
		}
	}
	if ran < 20 {
		t.Errorf("%d blocks were run", ran)
	}
}
