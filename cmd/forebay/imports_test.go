package main_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "forebay"

// maySiblings says which of our own top-level packages each may import, tests
// included. cmd may import everything and nothing may import cmd.
var maySiblings = map[string][]string{
	"limiter":  {},
	"buffer":   {},
	"policies": {"limiter"},
	"ingress":  {"buffer", "limiter", "policies"},
	"drain":    {"buffer", "limiter", "policies"},
	"cmd":      {"limiter", "buffer", "policies", "ingress", "drain"},
}

// onlyIn says which top-level packages may import a dependency.
var onlyIn = map[string][]string{
	"github.com/dgraph-io/":      {"buffer"},
	"github.com/knadh/koanf/":    {"policies", "cmd"},
	"github.com/spf13/":          {"cmd"},
	"github.com/RoaringBitmap/":  {"buffer"},
	"github.com/stretchr/":       {},
	"github.com/pkg/errors":      {},
	"net/http/httputil":          {"ingress", "cmd"},
	"github.com/twmb/franz-go/p": {"ingress", "drain", "buffer", "cmd"},
}

var bannedFolders = []string{"util", "utils", "common", "shared", "internal", "helpers", "misc", "types", "base"}

// A pkg is what go list says of a package.
type pkg struct {
	ImportPath                         string
	Imports, TestImports, XTestImports []string
}

func TestImports(t *testing.T) {
	for _, p := range listPackages(t) {
		for _, complaint := range complaints(p) {
			t.Error(complaint)
		}
	}
}

func TestComplaints(t *testing.T) {
	tests := []struct {
		name string
		pkg  pkg
		want string // part of the one complaint; empty: none
	}{
		{"fine", pkg{ImportPath: "forebay/drain/sink/http", Imports: []string{"forebay/buffer", "net/http"}}, ""},
		{"own folder", pkg{ImportPath: "forebay/buffer", Imports: []string{"forebay/buffer/segment"}}, ""},
		{"sibling", pkg{ImportPath: "forebay/limiter", Imports: []string{"forebay/policies"}}, "may not import forebay/policies"},
		{"sibling in a test", pkg{ImportPath: "forebay/drain", XTestImports: []string{"forebay/ingress"}}, "may not import forebay/ingress"},
		{"cmd", pkg{ImportPath: "forebay/ingress", Imports: []string{"forebay/cmd/forebay"}}, "may not import forebay/cmd/forebay"},
		{"badger", pkg{ImportPath: "forebay/drain", Imports: []string{"github.com/dgraph-io/badger/v4"}}, "belongs to buffer alone"},
		{"koanf", pkg{ImportPath: "forebay/ingress", Imports: []string{"github.com/knadh/koanf/v2"}}, "belongs to policies, cmd alone"},
		{"folder", pkg{ImportPath: "forebay/drain/util"}, `no package is called "util"`},
		{"new top-level package", pkg{ImportPath: "forebay/server"}, "has no rule"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := complaints(tt.pkg)
			switch {
			case tt.want == "" && len(got) > 0:
				t.Errorf("complaints(%+v) = %q, want none", tt.pkg, got)
			case tt.want != "" && (len(got) != 1 || !strings.Contains(got[0], tt.want)):
				t.Errorf("complaints(%+v) = %q, want one with %q", tt.pkg, got, tt.want)
			}
		})
	}
}

// complaints lists what is wrong with a package's place and imports.
func complaints(p pkg) []string {
	path := strings.TrimPrefix(p.ImportPath, module+"/")
	top, _, _ := strings.Cut(path, "/")
	siblings, known := maySiblings[top]
	if !known {
		return []string{p.ImportPath + " has no rule: it is none of the packages of the layout"}
	}
	var out []string
	for folder := range strings.SplitSeq(path, "/") {
		if slices.Contains(bannedFolders, folder) {
			out = append(out, p.ImportPath+": no package is called \""+folder+"\"; move each function to its caller")
		}
	}
	imports := slices.Concat(p.Imports, p.TestImports, p.XTestImports)
	slices.Sort(imports)
	for _, imp := range slices.Compact(imports) {
		if rest, ours := strings.CutPrefix(imp, module+"/"); ours {
			other, _, _ := strings.Cut(rest, "/")
			if other != top && !slices.Contains(siblings, other) {
				out = append(out, p.ImportPath+" may not import "+imp)
			}
			continue
		}
		for dep, homes := range onlyIn {
			if strings.HasPrefix(imp, dep) && !slices.Contains(homes, top) {
				out = append(out, p.ImportPath+" imports "+imp+", which belongs to "+strings.Join(homes, ", ")+" alone")
			}
		}
	}
	return out
}

func listPackages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,TestImports,XTestImports", module+"/...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &stderr)
	}
	var pkgs []pkg
	dec := json.NewDecoder(bytes.NewReader(out))
	for {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("decode go list: %v", err)
		}
		pkgs = append(pkgs, p)
	}
	if len(pkgs) < len(maySiblings) {
		t.Fatalf("go list found %d packages, want at least %d", len(pkgs), len(maySiblings))
	}
	return pkgs
}
