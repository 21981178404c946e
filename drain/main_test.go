package drain

import (
	"os"
	"runtime"
	"testing"
)

// In virtual time a goroutine runs while others wait for it. A second processor would
// be woken for each of them, which takes as long again as the tests.
func TestMain(m *testing.M) {
	runtime.GOMAXPROCS(1)
	os.Exit(m.Run())
}
