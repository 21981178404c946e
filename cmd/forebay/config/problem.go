package config

import (
	"fmt"
	"strings"
)

// Problem is one mistake and a way to mend it. Line and Column are 0 for a
// value that comes from the environment or from a flag.
type Problem struct {
	File         string // the file, the variable or the flag
	Line, Column int
	Message      string
	Hint         string
	Source       string // the text of the line
}

func (p Problem) Error() string {
	if p.Line == 0 {
		return fmt.Sprintf("%s: error: %s", p.File, p.Message)
	}
	return fmt.Sprintf("%s:%d:%d: error: %s", p.File, p.Line, p.Column, p.Message)
}

// Problems is all that is wrong with a configuration.
type Problems []Problem

func (ps Problems) Error() string {
	lines := make([]string, 0, len(ps))
	for _, p := range ps {
		lines = append(lines, p.Error())
	}
	return strings.Join(lines, "\n")
}
