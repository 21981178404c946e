package promcheck

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
)

var rulesDir = filepath.Join(root, "dashboards", "rules")

// tool runs one of Prometheus' programs, which has to be installed.
func tool(t *testing.T, stdin, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Stdin = dir, strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v (on Debian: apt-get install prometheus)\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// The rules are what Prometheus' newest parser and Debian's promtool take.
func TestRules(t *testing.T) {
	for _, name := range []string{"alerts.yaml", "recording.yaml"} {
		text, err := os.ReadFile(filepath.Join(rulesDir, name))
		if err != nil {
			t.Fatal(err)
		}
		if _, errs := rulefmt.Parse(text, false, model.LegacyValidation, parser.NewParser(parser.Options{})); len(errs) > 0 {
			t.Errorf("%s: %v", name, errs)
		}
	}
	tool(t, "", rulesDir, "promtool", "check", "rules", "alerts.yaml", "recording.yaml")
	tool(t, "", filepath.Join(root, "deploy", "prometheus"), "promtool", "check", "config", "--syntax-only", "prometheus.yml")
	tool(t, "", rulesDir, "promtool", "test", "rules", "alerts_test.yaml")
}

var alertCase = regexp.MustCompile(`(?m)^ +alertname: (\w+)\n +exp_alerts:( \[\])?$`)

// Each alert has a case in which it fires and one in which it stays quiet.
func TestEachAlertHasCases(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(rulesDir, "alerts_test.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	// The last cases ask all of them, after an hour without Prometheus.
	own, _, ok := strings.Cut(string(text), "an hour without Prometheus'")
	if !ok {
		t.Error("no case has an hour without Prometheus")
	}
	fires, quiet := map[string]bool{}, map[string]bool{}
	for _, c := range alertCase.FindAllStringSubmatch(own, -1) {
		if c[2] == "" {
			fires[c[1]] = true
		} else {
			quiet[c[1]] = true
		}
	}
	alerts, err := os.ReadFile(filepath.Join(rulesDir, "alerts.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`(?m)- alert: (\w+)$`).FindAllStringSubmatch(string(alerts), -1)
	if len(names) < 16 {
		t.Fatalf("%d alerts", len(names))
	}
	for _, n := range names {
		if !fires[n[1]] || !quiet[n[1]] {
			t.Errorf("%s: a case that fires: %v, one that stays quiet: %v", n[1], fires[n[1]], quiet[n[1]])
		}
	}
}
