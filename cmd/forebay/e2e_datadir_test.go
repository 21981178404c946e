package main_test

import (
	"crypto/sha256"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// refused launches the program on a data directory that it has to leave alone:
// exit 1, one line that names the directory, and no file changed.
func refused(t *testing.T, s *site, says string) {
	t.Helper()
	before := snapshot(t, s.data())
	srv := s.launch()
	code := srv.exit(15 * time.Second)
	said := srv.stderr.tail(keptLines)
	if code != 1 {
		t.Errorf("exit %d, want 1", code)
	}
	var lines []string
	for line := range strings.Lines(said) {
		if !strings.HasPrefix(line, "hint: ") {
			lines = append(lines, line)
		}
	}
	if len(lines) != 1 || !strings.Contains(said, s.data()) || !strings.Contains(said, says) {
		t.Errorf("stderr, want one line with %q and %q:\n%s", s.data(), says, said)
	}
	if diff := cmp.Diff(before, snapshot(t, s.data())); diff != "" {
		t.Errorf("the data directory was touched (-before +after):\n%s", diff)
	}
}

// snapshot returns name, mode and contents of all files below dir. The lock
// file holds the number of the process that had it last, which is no data.
func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		files[path] = info.Mode().String()
		if !info.Mode().IsRegular() || d.Name() == "LOCK" {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		s := sha256.Sum256(text)
		files[path] += " " + string(s[:8])
		return nil
	})
	if err != nil && !os.IsNotExist(err) && !strings.Contains(err.Error(), "not a directory") {
		t.Fatal(err)
	}
	return files
}

// withBacklog returns a stopped site whose data directory holds messages in
// several segments. Noise does not compress, so it takes few of them.
func withBacklog(t *testing.T) *site {
	t.Helper()
	s := newSite(t, orderPolicy("http://127.0.0.1:1", "0"))
	srv := s.start()
	noise := rand.NewChaCha8([32]byte{})
	bodies := make([][]byte, 64)
	for i := range bodies {
		bodies[i] = make([]byte, 60<<10)
		_, _ = noise.Read(bodies[i]) // it cannot fail
	}
	postAll(t, srv.public, bodies, 4)
	srv.stop()
	segments, err := filepath.Glob(filepath.Join(s.data(), "seg-*"))
	if err != nil || len(segments) < 3 {
		t.Fatalf("%d segments of 1 MiB after %d bodies of 60 KiB, want at least 3 (%v)", len(segments), len(bodies), err)
	}
	return s
}

func TestDataDirectoryInUse(t *testing.T) {
	shop := newSink(t, nil)
	s := newSite(t, orderPolicy(shop.url, "0"))
	first := s.start()
	order := realOrders(t)[:1]
	receipts := postAll(t, first.public, order, 1)
	refused(t, s, "in use")

	s.setPolicy(orderPolicy(shop.url, "100/s"))
	until(t, 10*time.Second, "the first process works on", func() bool { return shop.count() == 1 })
	wantOnce(t, shop.arrivals(), order, receipts)
}

func TestDataDirectoryNotWritable(t *testing.T) {
	t.Run("a file", func(t *testing.T) {
		s := newSite(t, orderPolicy("http://127.0.0.1:1", "0"))
		s.write("data", "not a directory")
		refused(t, s, "not a directory")
	})
	t.Run("below what nobody can write", func(t *testing.T) {
		s := newSite(t, orderPolicy("http://127.0.0.1:1", "0"))
		if os.Geteuid() == 0 {
			// Permissions do not bind root, but a link that leads nowhere does.
			if err := os.Symlink(s.path("no", "such", "place"), s.data()); err != nil {
				t.Fatal(err)
			}
		} else if err := os.Mkdir(s.data(), 0o500); err != nil {
			t.Fatal(err)
		}
		refused(t, s, "")
	})
}

func TestDataDirectoryFromANewerFormat(t *testing.T) {
	s := withBacklog(t)
	path := filepath.Join(s.data(), "FORMAT")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	old := strings.TrimSpace(string(text))
	fields := strings.Fields(old)
	version, err := strconv.Atoi(fields[len(fields)-1])
	if err != nil {
		t.Fatalf("FORMAT holds %q, want it to end with a number", text)
	}
	newer := strings.TrimSuffix(old, fields[len(fields)-1]) + strconv.Itoa(version+1)
	if err := os.WriteFile(path, []byte(newer+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	refused(t, s, "format "+strconv.Itoa(version+1))
}

// Each kind of file goes missing in turn, with messages in the buffer. Starting
// without it would lose or forge something, so nothing starts.
func TestDataDirectoryHalfDeleted(t *testing.T) {
	whole := withBacklog(t)
	tests := []struct {
		name    string
		victims string // glob below the data directory
		all     bool   // remove all that match, not the first alone
	}{
		{name: "the oldest segment", victims: "seg-*"},
		{name: "every segment", victims: "seg-*", all: true},
		{name: "a segment's value log", victims: "seg-*/*.vlog"},
		{name: "the format", victims: "FORMAT"},
		{name: "the key of the receipts", victims: "KEY"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t, orderPolicy("http://127.0.0.1:1", "0"))
			if err := os.CopyFS(s.data(), os.DirFS(whole.data())); err != nil {
				t.Fatal(err)
			}
			found, err := filepath.Glob(filepath.Join(s.data(), tt.victims))
			if err != nil || len(found) == 0 {
				t.Fatalf("nothing matches %s: %v", tt.victims, err)
			}
			if !tt.all {
				found = found[:1]
			}
			for _, path := range found {
				if err := os.RemoveAll(path); err != nil {
					t.Fatal(err)
				}
			}
			refused(t, s, "")
		})
	}
}

// A bit that flipped on the disk costs the messages of its block: they are dead as
// damaged, the log and the metrics say so, and all others are delivered as they were.
func TestDataDirectoryWithADamagedBlock(t *testing.T) {
	t.Parallel()
	s := withBacklog(t)
	logs, err := filepath.Glob(filepath.Join(s.data(), "seg-*", "*.vlog"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(logs[0])
	if err != nil {
		t.Fatal(err)
	}
	text[len(text)/2] ^= 1
	if err := os.WriteFile(logs[0], text, 0o600); err != nil {
		t.Fatal(err)
	}
	shop := newSink(t, nil)
	s.setPolicy(orderPolicy(shop.url, "unlimited"))
	srv := s.start()
	got := settle(t, srv, 20*time.Second)
	if got.Dead == 0 || got.Dead > 8 || got.Delivered+got.Dead != 64 {
		t.Errorf("audit = %+v, want the messages of a block dead, and all others of 64 delivered", got)
	}
	noise, sound := rand.NewChaCha8([32]byte{}), map[sum]bool{}
	for range 64 {
		body := make([]byte, 60<<10)
		_, _ = noise.Read(body) // it cannot fail
		sound[sha256.Sum256(body)] = true
	}
	for _, a := range shop.arrivals() {
		if !sound[a.Sum] {
			t.Errorf("%s arrived as nobody posted it", a.ID)
		}
	}
	if n, _ := metric(t, srv, "forebay_buffer_corrupt_blocks_total"); n != 1 {
		t.Errorf("%v blocks count as damaged, want 1", n)
	}
	if n, _ := metric(t, srv, `forebay_drain_dead_messages_total{drain="orders-to-shop",reason="damaged"}`); int(n) != got.Dead {
		t.Errorf("%v messages count as damaged, want %d", n, got.Dead)
	}
	if log := srv.stderr.tail(keptLines); !strings.Contains(log, "level=ERROR") || !strings.Contains(log, "damaged") {
		t.Errorf("the log does not name the damage:\n%s", log)
	}
}
