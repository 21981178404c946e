package main_test

import (
	"runtime"
	"testing"
)

// The committer waits for the disk on a processor that nobody else lacks, unless whoever
// starts the program says how many there are.
func TestSpareProcessor(t *testing.T) {
	ours := runtime.GOMAXPROCS(0)
	runtime.SetDefaultGOMAXPROCS()
	there := runtime.GOMAXPROCS(ours)
	for set, want := range map[string]int{"": there + 1, "1": 1} {
		t.Setenv("GOMAXPROCS", set)
		srv := newSite(t, fanOutPolicy("http://127.0.0.1:9", "http://127.0.0.1:9", 1)).start()
		if got, ok := metric(t, srv, "go_sched_gomaxprocs_threads"); !ok || got != float64(want) {
			t.Errorf("with GOMAXPROCS=%q, %v processors, want %d", set, got, want)
		}
	}
}
