package main_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// What the pages show is run. The word after the fence says how:
//
//	sh               run, in the order of the page, in one fresh folder, with forebay on the PATH
//	                 and a service behind every address that is not Forebay's own; a block that
//	                 begins with "forebay serve" keeps running while the rest of the page is run
//	sh repository    for the root of a clone, run by .ci/run; here each make target has to exist
//	yaml FILE        written to FILE in that folder
//	yaml             the same, without a name; both have to pass forebay check if they are policies
//
// An example's policies are in the folder of its page.
//
// Blocks of another language are for reading.
type block struct {
	lang, arg string
	line      int // of the fence
	text      string
}

var fence = regexp.MustCompile("^\\s*(```+)\\s*([A-Za-z]*)\\s*([^\\s`]*)\\s*$")

func parseBlocks(page string) []block {
	var (
		blocks []block
		open   *block
		ticks  string
	)
	for i, line := range strings.Split(page, "\n") {
		m := fence.FindStringSubmatch(line)
		switch {
		case open == nil && m != nil:
			open, ticks = &block{lang: m[2], arg: m[3], line: i + 1}, m[1]
		case open != nil && m != nil && m[1] == ticks && m[2] == "":
			blocks = append(blocks, *open)
			open = nil
		case open != nil:
			open.text += line + "\n"
		}
	}
	return blocks
}

func (b block) serves() bool {
	return b.lang == "sh" && b.arg == "" && strings.HasPrefix(b.text, "forebay serve")
}

func TestParseBlocks(t *testing.T) {
	page := "text\n```sh\nforebay version\n```\n\n```yaml policy.yaml\nversion: 1\n```\n```\nplain\n```\n```sh repository\nmake run\n```\n"
	want := []block{
		{"sh", "", 2, "forebay version\n"},
		{"yaml", "policy.yaml", 6, "version: 1\n"},
		{"", "", 9, "plain\n"},
		{"sh", "repository", 12, "make run\n"},
	}
	if diff := cmp.Diff(want, parseBlocks(page), cmp.AllowUnexported(block{})); diff != "" {
		t.Errorf("parseBlocks (-want +got):\n%s", diff)
	}
}

// The pages that serve are done alone: another test might be given the port that a
// server is about to take.
func TestDocs(t *testing.T) { doPages(t, true) }

func TestDocsWithoutServer(t *testing.T) {
	t.Parallel()
	doPages(t, false)
}

func doPages(t *testing.T, serving bool) {
	t.Helper()
	for _, path := range docPages(t) {
		blocks := parseBlocks(readText(t, path))
		if strings.Contains(path, "/runbooks/") || slices.ContainsFunc(blocks, block.serves) != serving {
			continue // TestRunbookCommands does those of runbooks
		}
		t.Run(pageName(path), func(t *testing.T) {
			p := newPage(t)
			p.beside(path)
			for _, b := range blocks {
				if t.Failed() {
					return // what follows builds on it
				}
				p.do(b)
			}
		})
	}
}

// pageName is short, and tells the pages of examples apart.
func pageName(path string) string {
	if name := filepath.Base(path); name != "README.md" {
		return name
	}
	return strings.TrimPrefix(path, "../../")
}

// A page is what its blocks share.
type page struct {
	t             *testing.T
	dir           string
	env           []string
	shop          *sink
	public, admin string // host:port
}

func newPage(t *testing.T) *page {
	t.Helper()
	p := &page{t: t, dir: t.TempDir(), shop: newSink(t, nil), public: freeAddr(t), admin: freeAddr(t)}
	bin := t.TempDir()
	// Later flags win: a page may choose its data directory, not its ports.
	script := fmt.Sprintf(`#!/bin/sh
case "${1-}" in
serve) shift; exec %[1]q serve --data data "$@" --listen %[2]s --admin %[3]s ;;
esac
exec %[1]q "$@"
`, forebay(t), p.public, p.admin)
	if err := os.WriteFile(filepath.Join(bin, "forebay"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := exec.LookPath("curl"); err != nil {
		buildCurl(t, filepath.Join(bin, "curl"))
	}
	p.env = append(cleanEnv(),
		"PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"),
		"FOREBAY_ADMIN_URL=http://"+p.admin)
	return p
}

func (p *page) do(b block) {
	p.t.Helper()
	switch {
	case b.lang == "yaml":
		p.file(b)
	case b.lang == "sh" && b.arg == "repository":
		p.targets(b)
	case b.lang == "sh" && b.arg != "":
		p.t.Errorf("line %d: sh %s: say sh, or sh repository", b.line, b.arg)
	case b.serves():
		p.serve(b)
	case b.lang == "sh":
		p.run(b)
	}
}

var address = regexp.MustCompile(`\b(?:localhost|127\.0\.0\.1):(\d+)`)

// local puts the addresses of this run in the place of those on the page.
func (p *page) local(text string) string {
	return address.ReplaceAllStringFunc(text, func(found string) string {
		switch found[strings.LastIndexByte(found, ':')+1:] {
		case "8080":
			return p.public
		case "9080":
			return p.admin
		default:
			return strings.TrimPrefix(p.shop.url, "http://")
		}
	})
}

// file writes a yaml block, and checks it when it is a policy.
func (p *page) file(b block) {
	p.t.Helper()
	name := b.arg
	if name == "" {
		name = fmt.Sprintf("line-%d.yaml", b.line)
	}
	path := filepath.Join(p.dir, filepath.FromSlash(name))
	if !filepath.IsLocal(name) {
		p.t.Fatalf("line %d: %s leads out of the folder", b.line, name)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(p.local(b.text)), 0o644); err != nil {
		p.t.Fatal(err)
	}
	if !regexp.MustCompile(`(?m)^(routes|drains|sinks|streams):`).MatchString(b.text) {
		return // process config
	}
	if stdout, stderr, code := command(p.t, "check", path); code != 0 {
		p.t.Errorf("line %d: forebay check: exit %d\n%s%s", b.line, code, stdout, stderr)
	}
}

// targets looks each make target of a block up in the Makefile.
func (p *page) targets(b block) {
	p.t.Helper()
	makefile, err := os.ReadFile("../../Makefile")
	if err != nil {
		p.t.Fatal(err)
	}
	for line := range strings.Lines(b.text) {
		words := strings.Fields(line)
		if len(words) < 2 || words[0] != "make" {
			continue
		}
		if !regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(words[1]) + `:`).Match(makefile) {
			p.t.Errorf("line %d: make %s is no target of the Makefile", b.line, words[1])
		}
	}
}

// beside gives the page of an example the policies that lie beside it.
func (p *page) beside(path string) {
	p.t.Helper()
	if !strings.Contains(path, "/examples/") {
		return
	}
	policies, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*.yaml"))
	if err != nil || len(policies) == 0 {
		p.t.Fatalf("no policy beside %s: %v", path, err)
	}
	for _, name := range policies {
		p.file(block{lang: "yaml", arg: filepath.Base(name), text: readText(p.t, name)})
	}
}

// serve starts the program and leaves it running to the end of the page.
func (p *page) serve(b block) {
	p.t.Helper()
	srv := &server{
		t:      p.t,
		cmd:    exec.Command("sh", "-euc", "exec "+p.local(b.text)),
		stderr: newOutput(),
		done:   make(chan struct{}),
	}
	srv.cmd.Dir, srv.cmd.Env = p.dir, p.env
	srv.run()
	srv.waitReady()
}

// run runs a block to its end. What it leaves in the background ends with the page.
func (p *page) run(b block) {
	p.t.Helper()
	out, err := os.CreateTemp(p.t.TempDir(), "out")
	if err != nil {
		p.t.Fatal(err)
	}
	defer out.Close()
	ctx, cancel := context.WithTimeout(p.t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-eu")
	cmd.Dir, cmd.Env = p.dir, p.env
	cmd.Stdin = strings.NewReader(p.local(b.text))
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err = cmd.Run()
	if cmd.Process != nil {
		group := -cmd.Process.Pid
		p.t.Cleanup(func() { _ = syscall.Kill(group, syscall.SIGKILL) }) // none may be left
	}
	if err != nil {
		said, _ := os.ReadFile(out.Name()) // the error that counts is the command's
		p.t.Errorf("line %d: %v\n%s\n%s", b.line, err, b.text, said)
	}
}

func freeAddr(t *testing.T) string {
	t.Helper()
	ln := listen(t)
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).String()
}

func buildCurl(t *testing.T, path string) {
	t.Helper()
	cmd := exec.Command("go", "build", "-buildvcs=false", "-o", path, "./testdata/curl")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the stand-in for curl: %v\n%s", err, out)
	}
}

// The stand-in sends what curl would send.
func TestCurlStandIn(t *testing.T) {
	shop := newSink(t, func([]arrival, arrival) answer {
		return answer{status: 202, header: http.Header{"Location": {"/here"}}}
	})
	curl := filepath.Join(t.TempDir(), "curl")
	buildCurl(t, curl)
	out, err := exec.Command(curl, "-si", "-H", "Content-Type: application/json", "--data-binary", `{"n":1}`, shop.url+"/v1/orders?a=b").Output()
	if err != nil || !strings.Contains(string(out), "202 Accepted") || !strings.Contains(string(out), "Location: /here") {
		t.Errorf("curl -si = %q, %v", out, err)
	}
	a := shop.arrivals()[0]
	if a.Method != http.MethodPost || a.Target != "/v1/orders?a=b" || a.Header.Get("Content-Type") != "application/json" {
		t.Errorf("the service saw %s %s %v", a.Method, a.Target, a.Header)
	}
	if out, err := exec.Command(curl, "-sf", shop.url, "--retry", "3").CombinedOutput(); err == nil {
		t.Errorf("a flag it does not know was taken: %q", out)
	}
}
