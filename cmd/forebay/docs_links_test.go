package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	pageLink = regexp.MustCompile(`\]\(([^()\s]+)\)`)
	heading  = regexp.MustCompile(`^#+ +(.+)$`)
	inHTML   = regexp.MustCompile(`<a (?:id|name)="([^"]+)"`)
	// noSlug is what an anchor leaves out of its heading.
	noSlug = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)
)

// markdown is a page without its fenced blocks: where it leads, and what leads
// into it.
type markdown struct {
	links   []string // "LINE target"
	anchors map[string]bool
}

func readMarkdown(text string) markdown {
	m := markdown{anchors: map[string]bool{}}
	ticks := ""
	for i, line := range strings.Split(text, "\n") {
		if f := fence.FindStringSubmatch(line); f != nil && (ticks == "" || f[1] == ticks) {
			if ticks == "" {
				ticks = f[1]
			} else {
				ticks = ""
			}
			continue
		}
		if ticks != "" {
			continue
		}
		for _, found := range pageLink.FindAllStringSubmatch(line, -1) {
			m.links = append(m.links, fmt.Sprintf("%d %s", i+1, found[1]))
		}
		for _, found := range inHTML.FindAllStringSubmatch(line, -1) {
			m.anchors[found[1]] = true
		}
		if h := heading.FindStringSubmatch(line); h != nil {
			m.add(strings.ReplaceAll(noSlug.ReplaceAllString(strings.ToLower(h[1]), ""), " ", "-"))
		}
	}
	return m
}

// add numbers what is there a second time, as those who show the pages do.
func (m markdown) add(slug string) {
	anchor := slug
	for n := 1; m.anchors[anchor]; n++ {
		anchor = fmt.Sprintf("%s-%d", slug, n)
	}
	m.anchors[anchor] = true
}

// dead are the links of a page that lead nowhere; other hosts are not asked.
func (m markdown) dead(path string) (list []string) {
	for _, found := range m.links {
		line, target, _ := strings.Cut(found, " ")
		if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
			continue
		}
		file, anchor, _ := strings.Cut(target, "#")
		to := m
		if file != "" {
			var err error
			if to, err = readPage(filepath.Join(filepath.Dir(path), filepath.FromSlash(file))); err != nil {
				list = append(list, line+" "+target)
				continue
			}
		}
		if anchor != "" && !to.anchors[anchor] {
			list = append(list, line+" "+target)
		}
	}
	return list
}

// readPage reads what a link leads to; folders and other files have no anchors.
func readPage(path string) (markdown, error) {
	if filepath.Ext(path) != ".md" {
		_, err := os.Stat(path)
		return markdown{}, err
	}
	text, err := os.ReadFile(path)
	return readMarkdown(string(text)), err
}

func TestDocsLinksResolve(t *testing.T) {
	t.Parallel()
	var pages []string
	for _, pattern := range []string{"../../*.md", "../../docs/*.md", "../../docs/runbooks/*.md", "../../examples/*/*.md", "../../policies/examples/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, found...)
	}
	links := 0
	for _, path := range pages {
		m, err := readPage(path)
		if err != nil {
			t.Fatal(err)
		}
		links += len(m.links)
		for _, bad := range m.dead(path) {
			t.Errorf("%s: line %s leads nowhere", strings.TrimPrefix(path, "../../"), bad)
		}
	}
	if links < 50 {
		t.Errorf("%d links found in %d pages", links, len(pages))
	}
}

func TestDocsLinksOfAPage(t *testing.T) {
	m := readMarkdown("# The `one`, and Two\n[a](#the-one-and-two) [b](#three)\n```sh\n# three\n[c](gone.md)\n```\n[d](gone.md#x) [e](https://x/y)\n[f](docs_test.go)\n# The one and two\n[g](#the-one-and-two-1)\n")
	got := strings.Join(m.dead("here.md"), ", ")
	if want := "2 #three, 7 gone.md#x"; got != want {
		t.Errorf("dead links: %s, want %s", got, want)
	}
}
