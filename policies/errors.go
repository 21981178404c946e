package policies

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// Severity says whether a finding keeps a policy from being used.
type Severity uint8

// The severities. A Mistake refuses the policy, a Warning does not.
const (
	Mistake Severity = iota
	Warning
)

// String is the word that a finding is printed with: error or warning.
func (s Severity) String() string {
	if s == Warning {
		return "warning"
	}
	return "error"
}

// Error is one finding in a policy file and the way to mend it.
type Error struct {
	File     string   `json:"file"`
	Line     int      `json:"line"`   // from 1
	Column   int      `json:"column"` // from 1, in characters
	Message  string   `json:"message"`
	Hint     string   `json:"hint"`
	Source   string   `json:"-"` // the text of the line
	Severity Severity `json:"-"`
}

// Error is the finding in one line: FILE:LINE:COL: error: MESSAGE.
func (e Error) Error() string {
	return fmt.Sprintf("%s:%d:%d: %s: %s", e.File, e.Line, e.Column, e.Severity, e.Message)
}

// Detail is the finding with the line it is about, a caret under the column, and
// the hint, in two to four lines without a newline at the end.
func (e Error) Detail() string {
	var b strings.Builder
	b.WriteString(e.Error())
	if line, caret := excerpt(e.Source, e.Column); line != "" {
		b.WriteString("\n" + line + "\n" + caret)
	}
	if e.Hint != "" {
		b.WriteString("\nhint: " + e.Hint)
	}
	return b.String()
}

// Errors are the findings of one Load, Parse or Check, in the order of the files
// and their lines. As JSON they are {file, line, column, message, hint} items.
type Errors []Error

// Error is every finding in full, as `forebay check` prints them.
func (es Errors) Error() string {
	details := make([]string, len(es))
	for i, e := range es {
		details[i] = e.Detail()
	}
	return strings.Join(details, "\n")
}

// Width of what is shown of a long line, in characters.
const excerptWidth = 160

// excerpt returns a printable part of a line and a caret line to go under it.
func excerpt(line string, column int) (text, caret string) {
	runes := []rune(line)
	at := min(max(column-1, 0), len(runes))
	if len(runes) > excerptWidth {
		from := max(0, min(at-excerptWidth/2, len(runes)-excerptWidth))
		runes, at = runes[from:from+excerptWidth], at-from
	}
	pad := make([]rune, at)
	for i, r := range runes {
		// What a terminal would act on must not reach it.
		if unicode.IsControl(r) && r != '\t' {
			runes[i] = unicode.ReplacementChar
		}
	}
	for i := range pad {
		pad[i] = ' '
		if runes[i] == '\t' {
			pad[i] = '\t'
		}
	}
	return string(runes), string(pad) + "^"
}

// A file of mistakes alone must not fill the memory of who reads about them.
const maxFindings = 1000

// findings collects what is found, up to a bound.
type findings struct {
	order    map[*source]int // of the files
	items    []finding       // mistakes
	over     int             // how many more there were
	warnings []finding       // as few as there are secrets and files to miss
}

type finding struct {
	place
	message, hint string
}

func (f *findings) add(p place, hint, message string) {
	if len(f.items) >= maxFindings {
		f.over++
		return
	}
	f.items = append(f.items, finding{p, message, hint})
}

func (f *findings) warn(p place, hint, message string) {
	if len(f.warnings) < maxFindings {
		f.warnings = append(f.warnings, finding{p, message, hint})
	}
}

// count is the number of mistakes.
func (f *findings) count() int { return len(f.items) + f.over }

// list returns findings in the order of files and lines.
func (f *findings) list(items []finding, s Severity) (es Errors) {
	slices.SortStableFunc(items, func(a, b finding) int {
		return cmp.Or(
			cmp.Compare(f.order[a.src], f.order[b.src]),
			cmp.Compare(a.line, b.line),
			cmp.Compare(a.column, b.column),
		)
	})
	for _, x := range items {
		es = append(es, x.error(s, x.hint, x.message))
	}
	return es
}

// errors returns the mistakes.
func (f *findings) errors() Errors {
	es := f.list(f.items, Mistake)
	if f.over > 0 {
		last := es[len(es)-1]
		last.Message, last.Hint = fmt.Sprintf("%d more mistakes are not shown", f.over), "mend those above first"
		es = append(es, last)
	}
	return es
}

// source is one file as its mistakes are shown.
type source struct {
	name  string
	lines []string
}

// place is where something stands in a file.
type place struct {
	src          *source
	line, column int // from 1
}

func (p place) error(s Severity, hint, message string) Error {
	e := Error{File: p.src.name, Line: p.line, Column: p.column, Message: message, Hint: hint, Severity: s}
	if p.line >= 1 && p.line <= len(p.src.lines) {
		e.Source = p.src.lines[p.line-1]
	}
	return e
}

func (p place) String() string { return fmt.Sprintf("%s:%d", p.src.name, p.line) }
