package main

import (
	"strings"
	"testing"

	"forebay/cmd/forebay/admin"
	"forebay/drain"
)

// Every constraint there is can be what binds, and is shown as that.
func TestWhyShowsEachConstraint(t *testing.T) {
	for _, c := range drain.Constraints() {
		var out strings.Builder
		printWhy(&out, admin.Why{Drain: "d", Binding: string(c), Constraints: []admin.Constraint{
			{Name: "another", Detail: "not that"}, {Name: string(c), Detail: "because"},
		}})
		marked := ""
		for line := range strings.Lines(out.String()) {
			if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "*" {
				marked += fields[1]
			}
		}
		if !strings.Contains(out.String(), "held by "+string(c)+"\n") || marked != string(c) {
			t.Errorf("why of a drain held by %s:\n%s", c, &out)
		}
	}
}
