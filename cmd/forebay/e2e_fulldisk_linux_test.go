package main_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// mounted is a volume of its own, for as long as the test lasts.
func mounted(t *testing.T, args ...string) string {
	t.Helper()
	dir := t.TempDir()
	must(t, exec.Command("mount", append(args, dir)...))
	t.Cleanup(func() { must(t, exec.Command("umount", dir)) })
	return dir
}

func must(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
}

// ext4 is a small volume on a loop device.
func ext4(t *testing.T, size int64) string {
	t.Helper()
	image := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, size); err != nil {
		t.Fatal(err)
	}
	must(t, exec.Command("mkfs.ext4", "-q", "-m", "0", image))
	return mounted(t, "-o", "loop", image)
}

func tmpfs(t *testing.T, size int64) string {
	t.Helper()
	return mounted(t, "-t", "tmpfs", "-o", fmt.Sprintf("size=%d", size), "tmpfs")
}

// A small volume is filled, drained, and filled again, many times: each time
// callers are told so, what was taken is delivered, and orders are taken again by
// themselves.
func TestFaultFullDisk(t *testing.T) {
	needs(t, "mount", "umount", "losetup", "mkfs.ext4")
	rounds := envInt(t, "FOREBAY_FULL_ROUNDS", 3)
	for name, volume := range map[string]func(*testing.T, int64) string{"ext4": ext4, "tmpfs": tmpfs} {
		t.Run(name, func(t *testing.T) {
			shop := newSink(t, nil)
			site := newSite(t, "version: 1")
			// The policy's directory stays where it is: only data are on the volume.
			disk := volume(t, 64<<20)
			link(t, disk, site.data())
			var plain clauses
			site.setPolicy(plain.policy(shop.url, "0"))
			srv := site.start()
			setRate := func(rate string) {
				site.setPolicy(plain.policy(shop.url, rate))
				if r := reload(t, srv); r.status != http.StatusOK {
					t.Fatalf("reload = %d: %s", r.status, r.body)
				}
			}
			for round := range rounds {
				before := len(shop.arrivals())
				fillUntilRefused(t, srv)
				taken, hog := audit(t, srv).Buffered, filepath.Join(disk, "hog")
				if round%2 == 1 { // others take the rest, min_free too
					takeRest(t, hog)
				}
				if taken < 100 {
					t.Errorf("round %d: full with %d messages of 60,000 bytes on 64 MiB", round, taken)
				}
				setRate("unlimited")
				settle(t, srv, 60*time.Second)
				if got := len(shop.arrivals()) - before; got != taken {
					t.Errorf("round %d: %d arrived of %d that were taken", round, got, taken)
				}
				if err := os.RemoveAll(hog); err != nil {
					t.Fatal(err)
				}
				c := newCaller(t, 1)
				until(t, 30*time.Second, "an order is taken again", func() bool {
					_, err := c.post(srv.public, []byte("{}"))
					return err == nil
				})
				settle(t, srv, 30*time.Second)
				setRate("0")
			}
			srv.stop()
			t.Logf("filled %d times", rounds)
		})
	}
}

func link(t *testing.T, volume, data string) {
	t.Helper()
	if err := os.Symlink(filepath.Join(volume, "data"), data); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(volume, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
}

// takeRest makes a file of all that is left of a volume.
func takeRest(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for chunk := make([]byte, 1<<20); len(chunk) > 0; {
		if _, err = f.Write(chunk); err != nil {
			chunk = chunk[:len(chunk)/2]
		}
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("fill the volume: %v, want that it is full", err)
	}
}

// fillUntilRefused posts bodies until one is refused for want of space.
func fillUntilRefused(t *testing.T, srv *server) {
	t.Helper()
	c, body := newCaller(t, 1), incompressible(60_000)
	for range 2000 {
		r, err := c.do(http.MethodPost, srv.public+"/v1/orders", body)
		if err != nil {
			t.Fatal(err)
		}
		if r.status == http.StatusAccepted {
			continue
		}
		if reason := refusedWith(t, r); reason != "disk-full" {
			t.Fatalf("refused with %s, want disk-full", reason)
		}
		return
	}
	t.Fatal("the volume never fills")
}
