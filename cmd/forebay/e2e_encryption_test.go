package main_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	plainConfig = "version: 1\nbuffer: { segment_bytes: 1MiB }\nshutdown: { delay: 200ms, timeout: 5s }\n"
	keyConfig   = "version: 1\nbuffer: { segment_bytes: 1MiB, encryption_key_file: %q }\nshutdown: { delay: 200ms, timeout: 5s }\n"
)

// encrypt gives a site a key; its next server encrypts.
func (s *site) encrypt() {
	s.t.Helper()
	s.newKey("key")
	s.write("forebay.yaml", fmt.Sprintf(keyConfig, s.path("key")))
}

func (s *site) newKey(name string) {
	s.t.Helper()
	if stdout, stderr, code := command(s.t, "encryption", "new-key", s.path(name)); code != 0 || !strings.HasPrefix(stdout, "wrote master key ") {
		s.t.Fatalf("new-key: exit %d\n%s%s", code, stdout, stderr)
	}
}

// rotate exchanges the key as the manual says.
func (s *site) rotate() {
	s.t.Helper()
	s.newKey("newer")
	newer, old := s.read("newer"), s.read("key")
	s.write("key", newer+old)
	stdout, stderr, code := command(s.t, "encryption", "rotate", "--data", s.data(), "--key-file", s.path("key"), "-o", "json")
	var got struct{ Rewrapped int }
	if err := json.Unmarshal([]byte(stdout), &got); code != 0 || err != nil || got.Rewrapped < 1 {
		s.t.Fatalf("rotate: exit %d, %v\n%s%s", code, err, stdout, stderr)
	}
	s.write("key", newer)
	if err := os.Remove(s.path("newer")); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) read(name string) string {
	s.t.Helper()
	text, err := os.ReadFile(s.path(name))
	if err != nil {
		s.t.Fatal(err)
	}
	return string(text)
}

// marks are what must not be found on a disk, by what they are.
type marks struct {
	mu   sync.Mutex // sinks answer while callers post
	rng  *rand.ChaCha8
	what map[string][][]byte
}

func newMarks(seed byte) *marks {
	return &marks{rng: rand.NewChaCha8([32]byte{seed}), what: map[string][][]byte{}}
}

// text is one that fits into a header field.
func (m *marks) text(what string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := make([]byte, 18)
	_, _ = m.rng.Read(b) // never fails
	text := base64.RawURLEncoding.EncodeToString(b)
	m.what[what] = append(m.what[what], []byte(text))
	return text
}

// bytes are n that do not compress, of which some in the middle are looked for.
func (m *marks) bytes(what string, n int) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := make([]byte, n)
	_, _ = m.rng.Read(b) // never fails
	m.what[what] = append(m.what[what], b[n/2:n/2+16], b[n/4:n/4+16])
	return b
}

// foundIn counts those that are in the files of a directory, or in one file.
func (m *marks) foundIn(t *testing.T, path string) map[string]int {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	found := map[string]int{}
	for what := range m.what {
		found[what] = 0
	}
	err := filepath.WalkDir(path, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		for what, list := range m.what {
			for _, mark := range list {
				found[what] += bytes.Count(b, mark)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// markedPolicy keeps messages for one drain and delivers them to another, whose sink's
// answers are kept.
func markedPolicy(sink, held string) string {
	return fmt.Sprintf(`version: 1
sinks:
  - { name: shop, http: { urls: [%[1]q] } }
streams:
  - { name: orders, ordering_key: ["header:X-Customer"] }
drains:
  - { name: to-shop, stream: orders, sink: shop, schedule: { base: 2000/s } }
  - { name: held, stream: orders, sink: shop, schedule: { base: %[2]s } }
routes:
  - name: create-order
    match: { methods: [POST], path: /v1/orders }
    mode: buffer
    stream: orders
    idempotency: { header: Idempotency-Key, ttl: 24h }
    store_result: { max_bytes: 4KiB }
`, sink, held)
}

// postMarked posts orders with marks everywhere.
func postMarked(t *testing.T, srv *server, m *marks, n int) {
	t.Helper()
	c := newCaller(t, 1)
	for range n {
		r, err := c.send("POST", srv.public+"/v1/orders", m.bytes("a body", 150_000), map[string]string{
			"Content-Type": "application/octet-stream", "X-Customer": m.text("an ordering key"),
			"X-Note": m.text("a header field"), "Idempotency-Key": m.text("an idempotency key"),
		})
		if err != nil || r.status != 202 {
			t.Fatalf("POST = %d %s, %v", r.status, r.body, err)
		}
	}
}

// TestEncryptedAtRest: of what callers sent and sinks answered nothing is to be found in
// any file, nor in a backup, whatever happened to it: kept, delivered, sealed, killed,
// recovered. Without a key, as a control, all of it is.
func TestEncryptedAtRest(t *testing.T) {
	for _, encrypted := range []bool{false, true} {
		t.Run(fmt.Sprintf("encrypted=%v", encrypted), func(t *testing.T) {
			t.Parallel()
			m := newMarks(1)
			shop := newSink(t, func([]arrival, arrival) answer {
				return answer{status: 200, body: m.bytes("an answer", 2000)}
			})
			s := newSite(t, markedPolicy(shop.url, "0"))
			if encrypted {
				s.encrypt()
			}
			srv := s.start()
			const first, then = 12, 6
			delivered := func(srv *server, n int) func() bool {
				return func() bool { return accountOf(t, srv, "to-shop").Delivered == n }
			}
			pause(t, srv, "to-shop")
			postMarked(t, srv, m, first)
			resume(t, srv, "to-shop")
			until(t, 30*time.Second, "the first orders are delivered", delivered(srv, first))
			srv.kill()
			srv = s.start()
			pause(t, srv, "to-shop")
			postMarked(t, srv, m, then)
			resume(t, srv, "to-shop")
			until(t, 30*time.Second, "all orders are delivered", delivered(srv, first+then))
			file := s.path("orders.backup")
			if _, stderr, code := command(t, "backup", "--to", file, "--admin-url", srv.admin); code != 0 {
				t.Fatalf("backup: exit %d\n%s", code, stderr)
			}
			atWork := m.foundIn(t, s.data())
			srv.stop()
			for where, found := range map[string]map[string]int{"at work": atWork, "after a stop": m.foundIn(t, s.data()), "in a backup": m.foundIn(t, file)} {
				for what, n := range found {
					if (n == 0) != encrypted {
						t.Errorf("%s: %s is found %d times", where, what, n)
					}
				}
			}
			if encrypted {
				restoreEncrypted(t, s, shop, file, first+then)
			}
		})
	}
}

func pause(t *testing.T, srv *server, drain string) {
	t.Helper()
	if _, stderr, code := command(t, "drains", "pause", drain, "--reason", "test", "--admin-url", srv.admin); code != 0 {
		t.Fatalf("pause: exit %d\n%s", code, stderr)
	}
}

func resume(t *testing.T, srv *server, drain string) {
	t.Helper()
	if _, stderr, code := command(t, "drains", "resume", drain, "--admin-url", srv.admin); code != 0 {
		t.Fatalf("resume: exit %d\n%s", code, stderr)
	}
}

var masterID = regexp.MustCompile(`\b[0-9a-f]{16}\b`)

// restoreEncrypted restores a backup of a site elsewhere, which needs its key, exchanges
// that, and delivers what was held.
func restoreEncrypted(t *testing.T, from *site, shop *sink, backup string, held int) {
	t.Helper()
	s := newSite(t, markedPolicy(shop.url, "2000/s"))
	if stdout, stderr, code := command(t, "restore", "--from", backup, "--data", s.data()); code != 0 {
		t.Fatalf("restore: exit %d\n%s%s", code, stdout, stderr)
	}
	id := masterID.FindString(from.newKeyIs())
	refused := func(what, setting, stderr string, code int) {
		t.Helper()
		line, _, _ := strings.Cut(stderr, "\n")
		if code != 1 || !strings.Contains(line, id) || !strings.Contains(line, setting) {
			t.Errorf("%s = %d, want 1 and one line with %s and %s\n%s", what, code, setting, id, stderr)
		}
	}
	srv := s.launch()
	code := srv.exit(20 * time.Second)
	refused("a start without a key", "buffer.encryption_key_file", lastError(srv), code)
	_, stderr, code := command(t, "verify", "--data", s.data())
	refused("verify without a key", "buffer.encryption_key_file", stderr, code)
	if !strings.Contains(stderr, "hint: pass --encryption-key-file FILE") {
		t.Errorf("verify without a key has no hint:\n%s", stderr)
	}
	s.encrypt() // with another key
	srv = s.launch()
	code = srv.exit(20 * time.Second)
	refused("a start with another key", "buffer.encryption_key_file", lastError(srv), code)

	s.write("key", from.read("key"))
	s.rotate()
	stdout, stderr, code := command(t, "verify", "--data", s.data(), "--config", s.path("forebay.yaml"), "-o", "json")
	var got struct {
		Sound, Encrypted bool
		InClear          int `json:"in_clear"`
	}
	if err := json.Unmarshal([]byte(stdout), &got); code != 0 || err != nil || !got.Sound || !got.Encrypted || got.InClear != 0 {
		t.Errorf("verify = %d, %+v, %v\n%s", code, got, err, stderr)
	}
	srv = s.start()
	until(t, 30*time.Second, "what was held is delivered", func() bool { return accountOf(t, srv, "held").Delivered == held })
	srv.stop()
}

// newKeyIs says which key a site has.
func (s *site) newKeyIs() string {
	s.t.Helper()
	stdout, _, _ := command(s.t, "encryption", "rotate", "--data", s.data(), "--key-file", s.path("key"))
	return stdout
}

// lastError is the line that a server ended with.
func lastError(srv *server) string {
	lines := strings.Split(strings.TrimSpace(srv.stderr.tail(5)), "\n")
	for _, line := range lines {
		if strings.HasPrefix(line, "error: ") {
			return line
		}
	}
	return lines[len(lines)-1]
}
