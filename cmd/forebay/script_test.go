package main

import (
	"context"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestScript runs the commands as people type them. They run in this process:
// paths are absolute, as $WORK gives them.
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"forebay": scriptForebay,
			"code":    scriptCode,
		},
	})
}

// scriptForebay runs the program. Any code but 0 fails, unless it stands after !.
func scriptForebay(ts *testscript.TestScript, neg bool, args []string) {
	code := run(context.Background(), args, strings.NewReader(""), ts.Stdout(), ts.Stderr())
	ts.Setenv("CODE", strconv.Itoa(code))
	if (code != exitDone) != neg {
		ts.Fatalf("forebay %s: exit %d", strings.Join(args, " "), code)
	}
}

// scriptCode checks the exit code of the last run.
func scriptCode(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: code N")
	}
	if got := ts.Getenv("CODE"); got != args[0] {
		ts.Fatalf("exit %s, want %s", got, args[0])
	}
}
