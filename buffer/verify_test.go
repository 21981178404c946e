package buffer_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"forebay/buffer"
	"forebay/buffer/block"

	"github.com/google/go-cmp/cmp"
)

// wantLost verifies a directory of which a start would lose so many messages.
func wantLost(t testing.TB, dir string, lost int, masters ...buffer.MasterKey) *buffer.Verdict {
	t.Helper()
	before := tree(t, dir)
	v, err := buffer.Verify(t.Context(), dir, masters, nil)
	if err != nil {
		t.Fatal(err)
	}
	sum := 0
	for _, l := range v.Lost {
		sum += int(l.Messages)
	}
	if sum != lost || (lost > 0 && len(v.Damage) == 0) {
		t.Errorf("verify says that %d messages are lost, want %d; it found %+v", sum, lost, v.Damage)
	}
	if diff := cmp.Diff(before, tree(t, dir)); diff != "" {
		t.Errorf("verify touched the directory (-before +after):\n%s", diff)
	}
	return v
}

// kept is a closed directory that has every kind of file: segments with what waits,
// with keys, outcomes, answers and idempotency keys.
func kept(t *testing.T, masters ...buffer.MasterKey) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	e := open(t, dir, masters...)
	configure(t, e, "mail")
	for i := range 40 {
		m := noise(uint64(i), 60_000)
		m.Key, m.KeepAnswer = fmt.Sprint("key ", i), 1<<10
		if _, _, err := e.AppendOnce(t.Context(), "orders", noon, []buffer.Message{m}, onceKeyOf(i)); err != nil {
			t.Fatal(err)
		}
	}
	ds, _, err := e.Take("mail", noon, 20)
	if err != nil || len(ds) != 20 {
		t.Fatalf("take = %d messages, %v", len(ds), err)
	}
	for _, d := range ds {
		e.Ack("mail", d.Offset, buffer.Result{At: noon, Attempts: 1, Status: 200, Answer: &buffer.Answer{Body: []byte("thanks")}})
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestVerify harms each kind of file: a bit, the end, all of it.
func TestVerify(t *testing.T) { verifiesAll(t) }

func TestVerifyEncrypted(t *testing.T) { verifiesAll(t, masterKey(t)) }

func verifiesAll(t *testing.T, masters ...buffer.MasterKey) {
	t.Helper()
	dir := kept(t, masters...)
	e := open(t, dir, masters...)
	if err := errors.Join(e.JoinOnces(), e.Close()); err != nil {
		t.Fatal(err)
	}
	if v := wantSound(t, dir, masters...); v.Messages < 20 || v.Segments < 2 || v.Files < 8 || v.Bytes < 20*60_000 {
		t.Errorf("verify = %+v, want it to have read all", v)
	}
	for _, tc := range []struct {
		glob   string
		remade bool // the damage is said to cost nothing
	}{
		{"seg-*/INDEX", true},
		{"seg-*/KEYS", true},
		{"NAMES", true},
		{"once/*.filter", true},
		{"once/*.outer", true},
		{"once/*.once", false},
		{"outcomes/*.out", false},
		{"outcomes/*.ans", false},
	} {
		for how, harm := range map[string]func(b []byte) []byte{
			"flipped": func(b []byte) []byte { b[len(b)-1] ^= 1; return b },
			"cut off": func(b []byte) []byte { return b[:len(b)-1] },
			"emptied": func([]byte) []byte { return nil },
		} {
			t.Run(tc.glob+" "+how, func(t *testing.T) {
				path := files(t, dir, tc.glob)[0]
				whole, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				put := func(b []byte) {
					if err := os.WriteFile(path, b, 0o600); err != nil {
						t.Fatal(err)
					}
				}
				put(harm(append([]byte(nil), whole...)))
				defer put(whole)
				v := wantLost(t, dir, 0, masters...)
				found := false
				for _, d := range v.Damage {
					found = found || (filepath.Join(dir, d.File) == path && d.Remade == tc.remade)
				}
				if !found {
					t.Errorf("verify found %+v, want %s with remade %v", v.Damage, path, tc.remade)
				}
			})
		}
	}
}

// TestVerifyWithoutHelp: what a crash had no time to write, and a start makes again, is
// no damage.
func TestVerifyWithoutHelp(t *testing.T) {
	dir := kept(t)
	remove(t, append(files(t, dir, "once/*.filter"), files(t, dir, "seg-*/KEYS")...)...)
	wantSound(t, dir)
}

// TestVerifyBlocks: which block, whose, and who loses what.
func TestVerifyBlocks(t *testing.T) {
	flip := func(nth int) func([]byte) {
		return func(b []byte) { b[nthBlock(t, b, nth)+block.HeaderSize+500] ^= 1 }
	}
	for name, tc := range map[string]struct {
		segment int // 0 the oldest
		harm    func([]byte)
		lost    int
		want    string
	}{
		"a message that waits":        {-1, flip(0), 1, "a block of messages"},
		"a message that is delivered": {0, flip(0), 0, "a block of messages that nobody needs any more"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := kept(t)
			logs := files(t, dir, "seg-*/*.vlog")
			path := logs[(tc.segment+len(logs))%len(logs)]
			edit(t, path, tc.harm)
			v := wantLost(t, dir, tc.lost)
			if len(v.Damage) == 0 {
				t.Fatal("nothing was found")
			}
			d := v.Damage[0]
			if filepath.Join(dir, d.File) != path || d.At <= 0 || d.Stream != "orders" || d.Count != 1 || d.What != tc.want {
				t.Errorf("damage = %+v, want %q of orders in %s", d, tc.want, path)
			}
		})
	}
}

// TestVerifyRefused: what a start refuses is damage; what is no buffer of this
// format cannot be looked at.
func TestVerifyRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		harm   func(t *testing.T, dir string)
		damage string // else an error
		fails  string
	}{
		"a segment gone":  {func(t *testing.T, dir string) { remove(t, files(t, dir, "seg-*")[1]) }, "is missing, with messages", ""},
		"a log gone":      {func(t *testing.T, dir string) { remove(t, files(t, dir, "seg-*/*.vlog")[0]) }, "has no value log", ""},
		"the key gone":    {func(t *testing.T, dir string) { remove(t, filepath.Join(dir, "KEY")) }, "KEY is missing", ""},
		"the format gone": {func(t *testing.T, dir string) { remove(t, filepath.Join(dir, "FORMAT")) }, "no FORMAT", ""},
		"the format harmed": {func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, "FORMAT"), []byte("foreBay buffer 2\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "FORMAT is damaged", ""},
		"another format": {inFormat(3), "", "has format 3"},
		"no buffer":      {func(t *testing.T, dir string) { remove(t, files(t, dir, "*")...) }, "", "is no data directory"},
		"nothing there":  {func(t *testing.T, dir string) { remove(t, dir) }, "", "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := kept(t)
			tc.harm(t, dir)
			v, err := buffer.Verify(t.Context(), dir, nil, nil)
			if tc.fails != "" {
				if err == nil || !strings.Contains(err.Error(), tc.fails) {
					t.Errorf("verify = %v, want an error with %q", err, tc.fails)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(v.Damage) == 0 || !strings.Contains(v.Damage[0].What, tc.damage) || !v.Refused {
				t.Errorf("verify found %+v, refused %v, want %q, refused", v.Damage, v.Refused, tc.damage)
			}
		})
	}
	e := open(t, filepath.Join(t.TempDir(), "data"))
	if _, err := buffer.Verify(t.Context(), e.Dir(), nil, nil); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("in use by process %d", os.Getpid())) {
		t.Errorf("verify of what is served = %v", err)
	}
}
