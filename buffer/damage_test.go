package buffer_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"forebay/buffer"
)

const (
	harmed   = 48 // messages
	finished = 30 // by one of the two drains; the first segments are left to the other
)

func harmedKey(n uint64) buffer.OnceKey {
	return buffer.OnceKey{Key: [16]byte{byte(n), 1}, TTL: time.Hour}
}

func harmedAnswer(n uint64) string { return fmt.Sprintf("order %d is known, %0100d", n, n) }

// everyFile is what a crash leaves of a buffer with a file of every kind.
func everyFile(t *testing.T, masters ...buffer.MasterKey) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	e := open(t, dir, masters...)
	configure(t, e, "mail", "sms")
	for n := range uint64(harmed) {
		m := noise(n, 60_000)
		m.Key, m.CancelKeys, m.KeepAnswer = fmt.Sprint("customer ", n), []string{fmt.Sprint("order ", n)}, 1000
		if _, _, err := e.AppendOnce(t.Context(), "orders", noon, []buffer.Message{m}, harmedKey(n)); err != nil {
			t.Fatal(err)
		}
		if n == finished {
			finishSome(t, e)
		}
	}
	if err := e.Settled(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "sealed segments", func() bool { return sealedCount(e) >= 2 })
	if err := e.JoinOnces(); err != nil {
		t.Fatal(err)
	}
	return crashed(t, e, dir)
}

func finishSome(t *testing.T, e *buffer.Engine) {
	t.Helper()
	ds, _, err := e.Take("mail", noon, finished)
	if err != nil || len(ds) != finished {
		t.Fatal(len(ds), err)
	}
	for _, d := range ds {
		e.Ack("mail", d.Offset, buffer.Result{At: noon, Attempts: 1, Status: 200, Answer: &buffer.Answer{Body: []byte(harmedAnswer(d.Offset))}})
	}
}

var digits = regexp.MustCompile(`[0-9a-f]{5,}`)

// kindsOfFiles lists one file of each kind, and of those in segments one of a sealed
// segment and one of the open segment.
func kindsOfFiles(t *testing.T, dir string) (list []string) {
	t.Helper()
	seen := map[string]bool{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		_, unsealed := os.Stat(filepath.Join(filepath.Dir(path), "INDEX"))
		if kind := fmt.Sprint(digits.ReplaceAllString(rel, "N"), unsealed != nil); !seen[kind] {
			seen[kind] = true
			list = append(list, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// harms are what becomes of a file.
var harms = []struct {
	name string
	do   func(b []byte) []byte
}{
	{"first byte flipped", func(b []byte) []byte { b[0] ^= 1; return b }},
	{"flipped at a third", func(b []byte) []byte { b[len(b)/3] ^= 0x40; return b }},
	{"last byte flipped", func(b []byte) []byte { b[len(b)-1] ^= 0x80; return b }},
	{"half", func(b []byte) []byte { return b[:len(b)/2] }},
	{"empty", func([]byte) []byte { return nil }},
}

// refusable are the files without which nothing can be read: a start may refuse
// what is left of them, in one line.
var refusable = regexp.MustCompile(`^(FORMAT|KEY)$|\.vlog$`)

// TestDamageInEveryFile harms one file of each kind in every way. Nothing wrong is
// delivered, found or answered; what is sound is delivered, and the rest is
// accounted for as damaged.
func TestDamageInEveryFile(t *testing.T) { damageInEveryFile(t) }

func TestDamageInEveryEncryptedFile(t *testing.T) { damageInEveryFile(t, masterKey(t)) }

func damageInEveryFile(t *testing.T, masters ...buffer.MasterKey) {
	t.Helper()
	sound := everyFile(t, masters...)
	list := kindsOfFiles(t, sound)
	for _, want := range []string{"FORMAT", "KEY", "NAMES", "BALLAST", "LOCK", "INDEX", "KEYS", ".vlog", ".sst", ".mem", "MANIFEST", "USED", ".once", ".filter", ".outer", ".out", ".ans"} {
		if !slices.ContainsFunc(list, func(path string) bool { return strings.Contains(path, want) }) {
			t.Errorf("no file of kind %s among %v", want, list)
		}
	}
	for _, path := range list {
		for _, harm := range harms {
			t.Run(path+" "+harm.name, func(t *testing.T) {
				t.Parallel()
				dir := filepath.Join(t.TempDir(), "data")
				copyTree(t, sound, dir)
				b, err := os.ReadFile(filepath.Join(dir, path))
				if err != nil {
					t.Fatal(err)
				}
				if len(b) == 0 {
					return // there is nothing to harm
				}
				if err := os.WriteFile(filepath.Join(dir, path), harm.do(b), 0o600); err != nil {
					t.Fatal(err)
				}
				survive(t, dir, refusable.MatchString(path), masters...)
			})
		}
	}
}

// survive starts on a harmed directory, takes all it has, and looks at what it says.
func survive(t *testing.T, dir string, mayRefuse bool, masters ...buffer.MasterKey) {
	t.Helper()
	e, err := buffer.Open(t.Context(), buffer.Config{Dir: dir, SegmentBytes: mib, MasterKeys: masters})
	if err != nil {
		if !mayRefuse || strings.Contains(err.Error(), "\n") {
			t.Errorf("open: %v", err)
		}
		return
	}
	defer e.Close()
	configure(t, e, "mail", "sms")
	wantBalanced(t, e)
	foundAsWere(t, e)
	got := drainAll(t, e, "sms")
	dead := deadOf(e, "sms")
	if len(got)+dead != harmed || !slices.IsSorted(got) {
		t.Errorf("sms got %v and %d are dead as damaged, want %d in all", got, dead, harmed)
	}
	if dead > 0 && e.Recovery().Damaged == 0 && e.Stats().Corrupt == 0 {
		t.Errorf("%d dead as damaged, and nothing says so: %+v", dead, e.Recovery())
	}
	got = slices.DeleteFunc(drainAll(t, e, "mail"), func(offset uint64) bool { return offset < finished })
	if len(got)+deadOf(e, "mail") < harmed-finished {
		t.Errorf("mail got %v and %d are dead as damaged, want all from %d", got, deadOf(e, "mail"), finished)
	}
	wantBalanced(t, e)
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}

func deadOf(e *buffer.Engine, drain string) int {
	for _, d := range e.Stats().Drains {
		if d.Drain == drain {
			return int(d.Dead[buffer.ReasonDamaged])
		}
	}
	return 0
}

// foundAsWere asks for every key, receipt and answer: it may be gone, but not another.
func foundAsWere(t *testing.T, e *buffer.Engine) {
	t.Helper()
	for n := range uint64(harmed) {
		a, err := e.Lookup(t.Context(), "orders", harmedKey(n).Key, noon)
		if err == nil && (a.First != n || a.Count != 1) || err != nil && !errors.Is(err, buffer.ErrNoMessage) {
			t.Errorf("idempotency key of message %d: %+v, %v", n, a, err)
		}
		st, err := e.Find(buffer.Ref{Stream: "orders", Offset: n}, noon)
		if err != nil {
			continue
		}
		for _, d := range st.Drains {
			if d.Answer != nil && !bytes.Equal(d.Answer.Body, []byte(harmedAnswer(n))) {
				t.Errorf("answer to message %d: %q", n, d.Answer.Body)
			}
			if d.State == buffer.Delivered && (d.Drain != "mail" || n >= finished) {
				t.Errorf("message %d counts as delivered by %s", n, d.Drain)
			}
		}
	}
}
