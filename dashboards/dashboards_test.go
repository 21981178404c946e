package dashboards

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// page is what the rules look at in a committed dashboard.
type page struct {
	UID, Title, Description string
	Tags                    []string
	SchemaVersion           int
	Editable                bool
	GraphTooltip            int
	Time                    struct{ From string }
	Links                   []struct {
		KeepTime, IncludeVars bool
		Tags                  []string
	}
	Templating  struct{ List []variable }
	Annotations struct {
		List []struct {
			Name, Expr string
			Datasource struct{ UID string }
		}
	}
	Panels []struct {
		ID                       int
		Type, Title, Description string
		Datasource               struct{ UID string }
		GridPos                  struct{ X, Y, W, H int }
		Targets                  []struct {
			Expr       string
			Datasource struct{ UID string }
		}
		FieldConfig struct{ Defaults struct{ Unit string } }
	}
}

type variable struct {
	Name, Label, Type, AllValue string
	Query                       any
	Multi, IncludeAll           bool
	Refresh                     int
	Datasource                  struct{ UID string }
}

func pages(t *testing.T) map[string]page {
	t.Helper()
	names, err := fs.Glob(Files(), "*.json")
	if err != nil || len(names) != 5 {
		t.Fatalf("dashboards %v, %v; want five", names, err)
	}
	list := make(map[string]page)
	for _, name := range names {
		text, err := fs.ReadFile(Files(), name)
		if err != nil {
			t.Fatal(err)
		}
		var p page
		if err := json.Unmarshal(text, &p); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		list[name] = p
	}
	return list
}

// What is committed is what is built.
func TestCommitted(t *testing.T) {
	for name, want := range Build() {
		got, err := fs.ReadFile(Files(), name)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(got), string(want)); diff != "" {
			t.Errorf("%s is not what is built; make generate writes it (-committed +built):\n%s", name, diff)
		}
	}
}

// The rules of Grafana's dashboard-linter but for those of PromQL, which test/promcheck
// holds, and what links and annotations need.
func TestLint(t *testing.T) {
	units := []string{"s", "bytes", "percentunit", "short", "reqps", "ops", "cps", "mps", "dateTimeFromNow"}
	uids := map[string]bool{}
	for name, p := range pages(t) {
		bad := func(form string, args ...any) { t.Helper(); t.Errorf(name+": "+form, args...) }
		if p.UID+".json" != name || uids[p.UID] || p.Title == "" || p.Description == "" || p.Editable || p.GraphTooltip != 1 || p.Time.From != "now-6h" || p.SchemaVersion < 39 {
			bad("the head is not as it is to be: %+v", p)
		}
		uids[p.UID] = true
		if diff := cmp.Diff([]string{"forebay", "mixin"}, p.Tags); diff != "" {
			bad("tags (-want +got):\n%s", diff)
		}
		if len(p.Links) != 1 || !p.Links[0].KeepTime || !p.Links[0].IncludeVars || !slices.Equal(p.Links[0].Tags, []string{"forebay"}) {
			bad("links to the others do not keep time and variables: %+v", p.Links)
		}
		for i, v := range p.Templating.List {
			lintVariable(bad, i, v)
		}
		if len(p.Annotations.List) < 4 {
			bad("annotations of reloads, windows, overrides and pauses: %+v", p.Annotations)
		}
		ids := map[int]bool{}
		for _, x := range p.Panels {
			if ids[x.ID] || x.GridPos.X+x.GridPos.W > 24 || x.GridPos.W == 0 {
				bad("panel %d %s is placed at %+v", x.ID, x.Title, x.GridPos)
			}
			ids[x.ID] = true
			if x.Type == "row" {
				continue
			}
			if !slices.Contains([]string{"timeseries", "stat", "state-timeline", "table"}, x.Type) {
				bad("%s is a %s", x.Title, x.Type)
			}
			if x.Title == "" || !strings.HasSuffix(x.Description, ".") || !slices.Contains(units, x.FieldConfig.Defaults.Unit) || x.Datasource.UID != "${datasource}" || len(x.Targets) == 0 {
				bad("panel %d lacks a title, a description, a unit, the data source or a target: %+v", x.ID, x)
			}
			for _, target := range x.Targets {
				if target.Datasource.UID != "${datasource}" || target.Expr == "" {
					bad("%s: target %+v", x.Title, target)
				}
			}
		}
	}
}

func lintVariable(bad func(string, ...any), i int, v variable) {
	want := []string{"datasource", "job", "instance"}
	switch {
	case i < len(want) && v.Name != want[i]:
		bad("variable %d is %s, want %s", i, v.Name, want[i])
	case i == 0 && (v.Type != "datasource" || v.Label != "Data source" || v.Query != "prometheus"):
		bad("the data source is %+v", v)
	case i > 0 && (v.Type != "query" || v.Label != v.Name || !v.Multi || !v.IncludeAll || v.AllValue != ".+" || v.Refresh != 2 || v.Datasource.UID != "${datasource}"):
		bad("variable %+v", v)
	}
}

// Export writes all of them, and leaves alone what else is there.
func TestExport(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	names, err := Export(dir, "https://wiki/forebay")
	if err != nil || len(names) != 7 {
		t.Fatalf("Export = %v, %v", names, err)
	}
	mine := filepath.Join(dir, "mine.json")
	if err := os.WriteFile(mine, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Export(dir, ""); err != nil {
		t.Fatalf("a second time: %v", err)
	}
	for _, name := range append(names, "mine.json") {
		if text, err := os.ReadFile(filepath.Join(dir, name)); err != nil || len(text) == 0 {
			t.Errorf("%s: %d bytes, %v", name, len(text), err)
		}
	}
	if _, err := Export(mine, ""); err == nil {
		t.Error("a file in the place of the folder is no error")
	}
}

// Runbooks may be anywhere: rules say so where they are told.
func TestExportRunbooks(t *testing.T) {
	for at, want := range map[string]string{
		"":                      "runbook_url: docs/runbooks/ForebayDown.md",
		"https://wiki/forebay":  "runbook_url: https://wiki/forebay/ForebayDown.md",
		"https://wiki/forebay/": "runbook_url: https://wiki/forebay/ForebayDown.md",
	} {
		dir := t.TempDir()
		if _, err := Export(dir, at); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(filepath.Join(dir, "rules", "alerts.yaml"))
		if err != nil || !strings.Contains(string(text), want+"\n") {
			t.Errorf("runbooks at %q: %v, no %q in the alerts", at, err, want)
		}
	}
}
