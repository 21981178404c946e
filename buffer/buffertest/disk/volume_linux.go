package disk

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Cache is a [Disk], in this process or in another.
type Cache interface {
	Plug(in struct{}, out *struct{}) error
	Cut(seed uint64, out *struct{}) error
	Unplug(force bool, out *struct{}) error
	Lie(in struct{}, out *struct{}) error
}

// Volume is an ext4 in a file, mounted over a loop device that goes with the mount.
// Its methods fail the test where they do not succeed.
type Volume struct {
	Dir   string
	Cache Cache // nil: the device has none

	t      testing.TB
	device string
}

// NewVolume makes and mounts a volume of so many bytes. cached makes the disk that
// shows an image elsewhere; nil: the device has no cache.
func NewVolume(t testing.TB, size int64, cached func(image, at string) (Cache, error)) *Volume {
	t.Helper()
	dir := t.TempDir()
	v := &Volume{t: t, Dir: filepath.Join(dir, "volume"), device: filepath.Join(dir, "image")}
	v.check(os.Mkdir(v.Dir, 0o700))
	v.check(os.WriteFile(v.device, nil, 0o600))
	v.check(os.Truncate(v.device, size))
	v.must("mkfs.ext4", "-q", "-F", v.device)
	if cached != nil {
		at := filepath.Join(dir, "disk")
		var err error
		v.Cache, err = cached(v.device, at)
		v.check(err)
		v.device = at
		t.Cleanup(func() { v.check(v.Cache.Unplug(true, new(struct{}))) })
	}
	t.Cleanup(func() {
		// It is no mount point where the test failed between umount and mount.
		_ = exec.Command("umount", "--lazy", v.Dir).Run()
	})
	v.Mount()
	return v
}

// Mount replays the journal, as the start of a machine does.
func (v *Volume) Mount() {
	v.t.Helper()
	if v.Cache != nil {
		v.check(v.Cache.Plug(struct{}{}, new(struct{})))
	}
	v.must("mount", "-o", "loop", v.device, v.Dir)
}

// Cut takes the power away, ends what uses the volume, and unmounts: what is not on
// the device by now never gets there. See [Disk.Cut] for seed.
func (v *Volume) Cut(seed uint64, end func()) {
	v.t.Helper()
	if v.Cache != nil {
		v.check(v.Cache.Cut(seed, new(struct{})))
	} else {
		v.freeze()
	}
	end()
	v.must("umount", v.Dir)
	if v.Cache != nil {
		v.check(v.Cache.Unplug(false, new(struct{})))
	}
}

// freeze keeps dirty pages and the journal's open transaction from the device.
func (v *Volume) freeze() {
	v.t.Helper()
	const (
		shutdown   = 0x8004587d // EXT4_IOC_SHUTDOWN
		noLogFlush = 2
	)
	dir, err := os.Open(v.Dir)
	v.check(err)
	defer dir.Close()
	if err := unix.IoctlSetPointerInt(int(dir.Fd()), shutdown, noLogFlush); err != nil {
		v.t.Fatalf("shut %s down: %v", v.Dir, err)
	}
}

func (v *Volume) must(name string, args ...string) {
	v.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		v.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

func (v *Volume) check(err error) {
	v.t.Helper()
	if err != nil {
		v.t.Fatal(err)
	}
}

// Tools fails the test unless it runs as root, and the tools are there: those of a
// volume, and more.
func Tools(t testing.TB, more ...string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("a power cut needs root: it mounts a file system")
	}
	for _, tool := range append([]string{"mkfs.ext4", "mount", "umount"}, more...) {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatal(fmt.Errorf("a power cut needs %w", err))
		}
	}
}
