package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"forebay/buffer/buffertest/disk"
)

const cutsVariable = "FOREBAY_TORTURE_CUTS"

// TestPowerCuts is TestTorture with the power cut instead: data lie on an ext4 of
// their own, on a device without a cache that stays as it is from a random point
// on. What was promised stays in this process, outside of it.
func TestPowerCuts(t *testing.T) {
	cutPower(t, "power cuts", false)
}

// The device has a cache, which the cut empties: some of what it was told to
// write before is there and some is not.
func TestPowerCutsWithCache(t *testing.T) {
	cutPower(t, "power cuts with a volatile cache", true)
}

func cutPower(t *testing.T, what string, cached bool) {
	wantPowerCuts(t)
	cuts := envInt(t, cutsVariable, 20)
	v := newVolume(t, cached)
	x := newTorture(t, cuts, what, v.Dir)
	x.crash = func(srv *server) time.Time { return cut(v, srv, x.rng.Uint64()) }
	x.mend = v.Mount
	x.run(cuts)
	x.report(x.judge())
}

// A program whose syncs do nothing, and a disk that flushes nothing, lose what was
// promised, and this harness sees it: else the tests above would prove nothing.
func TestPowerCutsShowLoss(t *testing.T) {
	wantPowerCuts(t, "strace")
	controls := []struct {
		name   string
		cached bool
		spoil  func(v *disk.Volume, srv *server)
	}{
		{"the program syncs nothing", false, func(_ *disk.Volume, srv *server) { withoutSync(t, srv) }},
		{"the disk flushes nothing", true, func(v *disk.Volume, _ *server) {
			if err := v.Cache.Lie(struct{}{}, new(struct{})); err != nil {
				t.Fatal(err)
			}
		}},
	}
	for _, c := range controls {
		t.Run(c.name, func(t *testing.T) {
			v := newVolume(t, c.cached)
			x := newTorture(t, 1, "power cut", v.Dir)
			srv := x.site.start()
			x.load.sendTo(srv.public)
			x.load.awaits(t, 50)
			c.spoil(v, srv)
			x.load.awaits(t, 100)
			x.crashed = append(x.crashed, crash{cut(v, srv, 0), time.Now()})
			x.load.sendTo("")
			v.Mount()
			got := x.judge()
			if got.lost == 0 {
				t.Error("nothing is lost")
			}
			fmt.Printf("control, %s: %d of %d messages lost, %d faults seen\n", c.name, got.lost, x.load.acked.Load(), len(got.faults))
		})
	}
}

// wantPowerCuts skips the test unless power cuts were asked for. Then root, the
// tools of a volume and more have to be there.
func wantPowerCuts(t *testing.T, tools ...string) {
	t.Helper()
	if os.Getenv(cutsVariable) == "" {
		t.Skip("a power cut needs root, a loop device and mkfs.ext4: make torture-power")
	}
	disk.Tools(t, tools...)
}

// newVolume is where the data lie, on a device with a cache or without.
func newVolume(t *testing.T, cached bool) *disk.Volume {
	t.Helper()
	const size = 1 << 30
	if !cached {
		return disk.NewVolume(t, size, nil)
	}
	return disk.NewVolume(t, size, func(image, at string) (disk.Cache, error) { return disk.New(image, at) })
}

// cut takes the power away from the program, and says when that began.
func cut(v *disk.Volume, srv *server, seed uint64) time.Time {
	at := time.Now()
	v.Cut(seed, func() { srv.kill() })
	return at
}

// withoutSync makes every sync of the program return 0 at once and do nothing,
// from now on. The program's own code is left as it is.
func withoutSync(t *testing.T, srv *server) {
	t.Helper()
	const calls = "fdatasync,fsync,msync,sync_file_range,syncfs"
	pid := srv.cmd.Process.Pid
	cmd := exec.Command("strace", "-f", "-qq", "-o", os.DevNull, "-e", "trace="+calls, "-e", "inject="+calls+":retval=0", "-p", fmt.Sprint(pid))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it has ended where the program has
		_ = cmd.Wait()
	})
	until(t, 20*time.Second, "strace holds all threads", func() bool { return tracedWhole(t, pid) })
}

// tracedWhole tells whether every thread of a process has a tracer.
func tracedWhole(t *testing.T, pid int) bool {
	t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(threads) == 0 {
		t.Fatalf("no threads of process %d: %v", pid, err)
	}
	for _, status := range threads {
		text, err := os.ReadFile(status)
		if err == nil && strings.Contains(string(text), "TracerPid:\t0\n") {
			return false
		}
	}
	return true
}
