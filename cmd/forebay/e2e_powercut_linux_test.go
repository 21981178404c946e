package main_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
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
	wantPowerCuts(t, "mkfs.ext4", "mount", "umount")
	cuts := envInt(t, cutsVariable, 20)
	v := newVolume(t, cached)
	x := newTorture(t, cuts, what, v.dir)
	v.rng = x.rng
	x.crash, x.mend = v.cut, v.mount
	x.run(cuts)
	x.report(x.judge())
}

// A program whose syncs do nothing, and a disk that flushes nothing, lose what was
// promised, and this harness sees it: else the tests above would prove nothing.
func TestPowerCutsShowLoss(t *testing.T) {
	wantPowerCuts(t, "mkfs.ext4", "mount", "umount", "strace")
	controls := []struct {
		name   string
		cached bool
		spoil  func(v *volume, srv *server)
	}{
		{"the program syncs nothing", false, func(_ *volume, srv *server) { withoutSync(t, srv) }},
		{"the disk flushes nothing", true, func(v *volume, _ *server) { v.disk.lie() }},
	}
	for _, c := range controls {
		t.Run(c.name, func(t *testing.T) {
			v := newVolume(t, c.cached)
			x := newTorture(t, 1, "power cut", v.dir)
			srv := x.site.start()
			x.load.sendTo(srv.public)
			x.load.awaits(t, 50)
			c.spoil(v, srv)
			x.load.awaits(t, 100)
			x.crashed = append(x.crashed, crash{v.cut(srv), time.Now()})
			x.load.sendTo("")
			v.mount()
			got := x.judge()
			if got.lost == 0 {
				t.Error("nothing is lost")
			}
			fmt.Printf("control, %s: %d of %d messages lost, %d faults seen\n", c.name, got.lost, x.load.acked.Load(), len(got.faults))
		})
	}
}

// wantPowerCuts skips the test unless power cuts were asked for. Then root and
// the tools have to be there.
func wantPowerCuts(t *testing.T, tools ...string) {
	t.Helper()
	if os.Getenv(cutsVariable) == "" {
		t.Skip("a power cut needs root, a loop device and mkfs.ext4: make torture-power")
	}
	if os.Geteuid() != 0 {
		t.Fatal("a power cut needs root: it mounts a file system")
	}
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatal(err)
		}
	}
}

// A volume is an ext4 in a file, mounted over a loop device that goes with the mount.
type volume struct {
	t           *testing.T
	dir, device string
	disk        *disk      // nil: the device has no cache
	rng         *rand.Rand // which sectors of a cache a cut keeps; nil: none
}

func newVolume(t *testing.T, cached bool) *volume {
	t.Helper()
	dir := t.TempDir()
	v := &volume{t: t, dir: filepath.Join(dir, "volume"), device: filepath.Join(dir, "image")}
	if err := os.Mkdir(v.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	image, err := os.Create(v.device)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { image.Close() })
	if err := image.Truncate(1 << 30); err != nil {
		t.Fatal(err)
	}
	v.must("mkfs.ext4", "-q", "-F", v.device)
	if cached {
		v.device = filepath.Join(dir, "disk")
		v.disk = newDisk(t, image, v.device)
	}
	t.Cleanup(func() {
		// It is no mount point where the test failed between umount and mount.
		_ = exec.Command("umount", "--lazy", v.dir).Run()
	})
	v.mount()
	return v
}

func (v *volume) must(name string, args ...string) {
	v.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		v.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// mount replays the journal, as the start of a machine does.
func (v *volume) mount() {
	v.t.Helper()
	if v.disk != nil {
		v.disk.plug()
	}
	v.must("mount", "-o", "loop", v.device, v.dir)
}

// cut takes the power away, ends the program and unmounts: what is not on the
// device by now never gets there.
func (v *volume) cut(srv *server) time.Time {
	v.t.Helper()
	at := time.Now()
	if v.disk != nil {
		v.disk.cut(v.rng)
	} else {
		v.freeze()
	}
	srv.kill()
	v.must("umount", v.dir)
	if v.disk != nil {
		v.disk.unplug()
	}
	return at
}

// freeze keeps dirty pages and the journal's open transaction from the device.
func (v *volume) freeze() {
	v.t.Helper()
	const (
		shutdown   = 0x8004587d // EXT4_IOC_SHUTDOWN
		noLogFlush = 2
	)
	dir, err := os.Open(v.dir)
	if err != nil {
		v.t.Fatal(err)
	}
	defer dir.Close()
	if err := unix.IoctlSetPointerInt(int(dir.Fd()), shutdown, noLogFlush); err != nil {
		v.t.Fatalf("shut %s down: %v", v.dir, err)
	}
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
