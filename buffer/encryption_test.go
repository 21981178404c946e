package buffer_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"forebay/buffer"

	"github.com/google/go-cmp/cmp"
)

// keyLines writes a key file and reads it.
func keyLines(t testing.TB, text string) ([]buffer.MasterKey, string, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return buffer.ReadMasterKeys(path)
}

// masterKey is a new one.
func masterKey(t testing.TB) buffer.MasterKey {
	t.Helper()
	keys, warning, err := keyLines(t, buffer.NewMasterKey())
	if err != nil || warning != "" || len(keys) != 1 {
		t.Fatal(keys, warning, err)
	}
	return keys[0]
}

func TestReadMasterKeys(t *testing.T) {
	hex, base64 := strings.Repeat("0aF9", 16), "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
	keys, _, err := keyLines(t, "# the new one\n\n "+hex+" \r\n"+base64+"\n")
	if err != nil || len(keys) != 2 || keys[0] == keys[1] || keys[0].ID() == keys[1].ID() || len(keys[0].ID()) != 16 {
		t.Errorf("keys = %v, %v", keys, err)
	}
	for verb, secret := range map[string]string{"%v": hex, "%x": hex, "%+v": hex, "%#v": hex, "%s": hex} {
		if got := fmt.Sprintf(verb, keys); strings.Contains(strings.ToLower(got), strings.ToLower(secret[:8])) {
			t.Errorf("%s prints the key: %s", verb, got)
		}
	}
	for text, want := range map[string]string{
		"":                                "has no key",
		"# only words\n":                  "has no key",
		hex + "\n" + hex[1:]:              "line 2 is no key",
		"#\n" + hex[:63] + "x":            "line 2 is no key",
		"c2hvcnQ=":                        "line 1 is no key",
		strings.Repeat("# long\n", 20000): "is it the right one?",
	} {
		_, _, err := keyLines(t, text)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), hex[1:60]) {
			t.Errorf("a file of %.20q: %v, want it to say %q", text, err, want)
		}
	}
}

// TestKeyFileMode: who else may read it is told.
func TestKeyFileMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte(buffer.NewMasterKey()), 0o600); err != nil {
		t.Fatal(err)
	}
	for mode, wide := range map[fs.FileMode]bool{0o400: false, 0o600: false, 0o640: false, 0o644: true, 0o660: true, 0o604: true} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, warning, err := buffer.ReadMasterKeys(path); err != nil || (warning != "") != wide {
			t.Errorf("mode %o: %q, %v", mode, warning, err)
		}
	}
}

// wantRefused opens and verifies a directory that neither may take.
func wantRefused(t *testing.T, dir, wanted string, masters ...buffer.MasterKey) {
	t.Helper()
	before := tree(t, dir)
	_, err := buffer.Open(t.Context(), buffer.Config{Dir: dir, SegmentBytes: mib, MasterKeys: masters})
	_, verr := buffer.Verify(t.Context(), dir, masters, nil)
	for _, err := range []error{err, verr} {
		wrong, ok := errors.AsType[*buffer.WrongKeyError](err)
		if !ok || wrong.Wanted != wanted || !strings.Contains(err.Error(), "buffer.encryption_key_file") || strings.Contains(err.Error(), "\n") {
			t.Errorf("refusal = %v, want one line with the setting and %s", err, wanted)
		}
	}
	if diff := cmp.Diff(before, tree(t, dir)); diff != "" {
		t.Errorf("a refused start touched the directory (-before +after):\n%s", diff)
	}
}

// TestWrongKey: an encrypted directory is refused without its key, with another,
// and takes it from anywhere in the file.
func TestWrongKey(t *testing.T) {
	t.Parallel()
	mine, other := masterKey(t), masterKey(t)
	dir := kept(t, mine)
	wantRefused(t, dir, mine.ID())
	wantRefused(t, dir, mine.ID(), other)
	if v := wantSound(t, dir, other, mine); !v.Encrypted || v.Clear != 0 {
		t.Errorf("verify = %+v, want it encrypted and nothing in the clear", v)
	}
	e := open(t, dir, other, mine)
	configure(t, e, "mail")
	if got := drainAll(t, e, "mail"); len(got) != 20 {
		t.Errorf("%d messages were delivered, want 20", len(got))
	}
}

// TestKeyLaterThanMessages: a directory that was in the clear takes a key. What is older
// stays as it is until it is drained, is told, and then it is gone.
func TestKeyLaterThanMessages(t *testing.T) {
	t.Parallel()
	mine := masterKey(t)
	dir := kept(t)
	if v := wantSound(t, dir); v.Encrypted || v.Clear != 0 {
		t.Errorf("verify = %+v, want it not encrypted", v)
	}
	var log bytes.Buffer
	e, err := buffer.Open(t.Context(), buffer.Config{Dir: dir, SegmentBytes: mib, MasterKeys: []buffer.MasterKey{mine}, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	old := e.Recovery().Clear
	if told := fmt.Sprintf("segments=%d files_of_records=", old); old == 0 || strings.Count(log.String(), told) != 1 {
		t.Errorf("%d segments in the clear; the log says\n%s", old, &log)
	}
	configure(t, e, "mail")
	for i := range 40 {
		if _, again, err := e.AppendOnce(t.Context(), "orders", noon, []buffer.Message{noise(uint64(i), 10)}, onceKeyOf(i)); err != nil || !again {
			t.Fatalf("idempotency key %d, from before: %v, %v", i, again, err)
		}
		wantFound(t, e, fmt.Sprint("key ", i), orNone(i >= 20, uint64(i))...)
	}
	fill(t, e, 40, 30, 60_000)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	wantRefused(t, dir, mine.ID())
	v := wantSound(t, dir, mine)
	if !v.Encrypted || v.Clear < old {
		t.Errorf("verify = %+v, want it encrypted, and at least %d files in the clear", v, old)
	}
	e = open(t, dir, mine)
	configure(t, e, "mail")
	if got := drainAll(t, e, "mail"); len(got) != 50 || got[0] != 20 {
		t.Errorf("delivered %v, want 20 to 69", got)
	}
	if err := e.Settled(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "segments that were delivered go", func() bool { return len(e.Dirs()) == 1 })
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	e = open(t, dir, mine)
	if n := e.Recovery().Clear; n != 0 {
		t.Errorf("%d segments are in the clear when all that was is delivered", n)
	}
}

func orNone(is bool, offset uint64) []uint64 {
	if is {
		return []uint64{offset}
	}
	return nil
}

// TestRotateKey: before, between and after, at each point where it may be
// interrupted, the key file with both lines opens the directory.
func TestRotateKey(t *testing.T) {
	t.Parallel()
	old, fresh := masterKey(t), masterKey(t)
	dir := kept(t, old)
	before, err := os.ReadFile(filepath.Join(dir, "KEY"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := buffer.RotateKey(dir, []buffer.MasterKey{fresh}); !strings.Contains(fmt.Sprint(err), old.ID()) {
		t.Errorf("a rotation without the old key: %v", err)
	}
	r, err := buffer.RotateKey(dir, []buffer.MasterKey{fresh, old})
	if err != nil || r != (buffer.Rotation{From: old.ID(), To: fresh.ID(), Wrapped: 1}) {
		t.Fatalf("rotation = %+v, %v", r, err)
	}
	wantRefused(t, dir, fresh.ID(), old)
	wantSound(t, dir, fresh)
	if r, err = buffer.RotateKey(dir, []buffer.MasterKey{fresh}); err != nil || r.Wrapped != 0 {
		t.Errorf("a second rotation = %+v, %v; want it to do nothing", r, err)
	}
	after, err := os.ReadFile(filepath.Join(dir, "KEY"))
	if err != nil {
		t.Fatal(err)
	}
	// The new file is written beside, in any part of it, when the end comes.
	for _, part := range [][]byte{{}, after[:100], after} {
		if err := os.WriteFile(filepath.Join(dir, "KEY"), before, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "KEY.tmp"), part, 0o600); err != nil {
			t.Fatal(err)
		}
		wantSound(t, dir, fresh, old)
	}
	if r, err = buffer.RotateKey(dir, []buffer.MasterKey{fresh, old}); err != nil || r.Wrapped != 1 {
		t.Fatalf("the rotation that was interrupted, again = %+v, %v", r, err)
	}
	e := open(t, dir, fresh)
	configure(t, e, "mail")
	if _, err := buffer.RotateKey(dir, []buffer.MasterKey{masterKey(t), fresh}); !strings.Contains(fmt.Sprint(err), "in use by process") {
		t.Errorf("a rotation beside a server: %v", err)
	}
	fill(t, e, 40, 20, 60_000) // with the second data key
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if r, err = buffer.RotateKey(dir, []buffer.MasterKey{old, fresh}); err != nil || r.Wrapped != 2 {
		t.Errorf("a third rotation = %+v, %v; want 2 keys wrapped", r, err)
	}
	e = open(t, dir, old)
	configure(t, e, "mail")
	if got := drainAll(t, e, "mail"); len(got) != 40 || got[0] != 20 {
		t.Errorf("delivered %v, want 20 to 59", got)
	}
}

// TestRotateRefused: what is no encrypted directory, in words.
func TestRotateRefused(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ dir, want string }{
		"in the clear":      {kept(t), "is not encrypted"},
		"no data directory": {t.TempDir(), "it has no FORMAT"},
		"nothing there":     {filepath.Join(t.TempDir(), "none"), "no such file"},
	} {
		if _, err := buffer.RotateKey(tc.dir, []buffer.MasterKey{masterKey(t)}); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}

// TestKeyCopies: all hangs on KEY, so it is there twice. One copy does, verify names
// it, and a start writes it again.
func TestKeyCopies(t *testing.T) {
	t.Parallel()
	mine := masterKey(t)
	dir := kept(t, mine)
	path := filepath.Join(dir, "KEY")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for at := range len(whole) {
		if whole[at] == 0 && at%97 != 0 {
			continue // most of the padding
		}
		b := bytes.Clone(whole)
		b[at] ^= 4
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := buffer.CheckKey(dir, mine); err != nil {
			t.Errorf("byte %d of %d flipped: %v", at, len(whole), err)
		}
	}
	both := bytes.Clone(whole)
	both[30] ^= 1
	both[len(both)-30] ^= 1
	if err := os.WriteFile(path, both, 0o600); err != nil {
		t.Fatal(err)
	}
	if v, err := buffer.Verify(t.Context(), dir, []buffer.MasterKey{mine}, nil); err != nil || len(v.Damage) != 1 || !strings.Contains(v.Damage[0].What, "KEY is damaged") {
		t.Errorf("both copies flipped: verify = %+v, %v", v, err)
	}
	if err := os.WriteFile(path, whole[:len(whole)-9], 0o600); err != nil {
		t.Fatal(err)
	}
	if v := wantLost(t, dir, 0, mine); len(v.Damage) != 1 || !v.Damage[0].Remade || v.Damage[0].File != "KEY" {
		t.Errorf("one copy cut: verify found %+v", v.Damage)
	}
	if err := open(t, dir, mine).Close(); err != nil {
		t.Fatal(err)
	}
	wantSound(t, dir, mine)
}

// TestBackupBesideSeals: what a crash left is sealed, and its files of records are
// written again, encrypted now, while a backup copies what there is.
func TestBackupBesideSeals(t *testing.T) {
	t.Parallel()
	mine := masterKey(t)
	for range 2 {
		dir := kept(t)
		remove(t, files(t, dir, "seg-*/INDEX")...)
		e := open(t, dir, mine)
		backup := backedUp(t, e)
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		r := open(t, restored(t, backup, mine), mine)
		configure(t, r, "mail")
		for i := range 40 {
			if _, again, err := r.AppendOnce(t.Context(), "orders", noon, []buffer.Message{noise(uint64(i), 10)}, onceKeyOf(i)); err != nil || !again {
				t.Fatalf("idempotency key %d in the backup: %v, %v", i, again, err)
			}
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRewrittenStaysEncrypted: what is copied into new blocks, and records that are merged,
// are encrypted as they were. As a control the same is done in the clear.
func TestRewrittenStaysEncrypted(t *testing.T) {
	t.Parallel()
	for _, masters := range [][]buffer.MasterKey{nil, {masterKey(t)}} {
		dir := filepath.Join(t.TempDir(), "data")
		e := open(t, dir, masters...)
		configure(t, e, "mail", "sms")
		const n = 90
		var scopes [][]byte
		for i := range n {
			m := noise(uint64(i), 60_000)
			m.Key = fmt.Sprint("customer ", i)
			if _, _, err := e.AppendOnce(t.Context(), "orders", noon, []buffer.Message{m}, onceKeyOf(i)); err != nil {
				t.Fatal(err)
			}
			scope := buffer.OnceScope("orders", onceKeyOf(i).Key)
			scopes = append(scopes, scope[:])
		}
		for _, drain := range []string{"mail", "sms"} {
			finishBut(t, e, drain, func(offset uint64) bool { return offset%15 == 5 })
		}
		waitFor(t, "segments are sealed", func() bool { return sealedCount(e) >= 4 })
		waitFor(t, "sparse segments go", func() bool {
			rewriteAll(t, e)
			return sealedCount(e) <= 1
		})
		if err := e.CompactOnces(); err != nil {
			t.Fatal(err)
		}
		left, body := crashed(t, e, dir), noise(5, 60_000).Body
		for what, mark := range map[string][]byte{
			"a body": body[30_000:30_016], "a key": []byte("customer 5"), "an idempotency record": scopes[5], "another": scopes[60],
		} {
			if n := inFiles(t, left, mark); (n == 0) != (masters != nil) {
				t.Errorf("with %d keys, %s is found in %d files", len(masters), what, n)
			}
		}
		if masters != nil {
			if v := wantSound(t, left, masters...); v.Clear != 0 {
				t.Errorf("%d files are in the clear", v.Clear)
			}
		}
	}
}

// inFiles counts the files below a directory that have some bytes.
func inFiles(t *testing.T, dir string, mark []byte) (n int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(b, mark) {
			n++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}
