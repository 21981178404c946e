package buffer_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"forebay/buffer"
	"forebay/buffer/block"
	"forebay/buffer/segment"

	"github.com/google/go-cmp/cmp"
)

const (
	goldenKey  = "6f6e6c7920666f7220746865206469726563746f7279206f6620612074657374"
	goldenKeep = 150 * 365 * 24 * time.Hour // whenever the test is run
	// goldenWrite makes the directories of the present format, once.
	goldenWrite = "FOREBAY_GOLDEN"
)

// TestGolden opens a directory that an earlier version left when it was killed, in the clear
// and encrypted, and finds in it what was in it then: balances, receipts, answers,
// idempotency keys, dead letters, messages. Files of a format stay as they are. A new
// format gets its own: FOREBAY_GOLDEN=write go test -run '^TestGolden$' ./buffer makes it.
func TestGolden(t *testing.T) {
	t.Parallel()
	masters, _, err := keyLines(t, goldenKey)
	if err != nil {
		t.Fatal(err)
	}
	if os.Getenv(goldenWrite) == "write" {
		writeGolden(t, fmt.Sprintf("testdata/golden/format-%d-clear", buffer.Format))
		writeGolden(t, fmt.Sprintf("testdata/golden/format-%d-encrypted", buffer.Format), masters...)
	}
	archives, err := filepath.Glob("testdata/golden/*.tar.gz")
	if err != nil || len(archives) == 0 || len(archives)%2 != 0 {
		t.Fatalf("directories %v, %v; want two for each format", archives, err)
	}
	if !slices.Contains(archives, fmt.Sprintf("testdata/golden/format-%d-encrypted.tar.gz", buffer.Format)) {
		t.Errorf("there is no directory of format %d", buffer.Format)
	}
	for _, archive := range archives {
		t.Run(filepath.Base(archive), func(t *testing.T) {
			name := strings.TrimSuffix(archive, ".tar.gz")
			with := masters
			if strings.HasSuffix(name, "clear") {
				with = nil
			}
			dir := filepath.Join(t.TempDir(), "data")
			extract(t, archive, dir)
			text, err := os.ReadFile(name + ".json")
			if err != nil {
				t.Fatal(err)
			}
			var want map[string][]string
			if err := json.Unmarshal(text, &want); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, factsOf(t, dir, with...)); diff != "" {
				t.Errorf("in the directory (-want +got):\n%s", diff)
			}
		})
	}
}

// writeGolden makes the files of a directory. What is there is never replaced.
func writeGolden(t *testing.T, name string, masters ...buffer.MasterKey) {
	t.Helper()
	if _, err := os.Stat(name + ".tar.gz"); err == nil {
		t.Fatalf("%s is there: a format has one directory for good; raise buffer.Format for another", name)
	}
	dir := goldenDir(t, masters...)
	pack(t, dir, name+".tar.gz")
	facts, err := json.MarshalIndent(factsOf(t, dir, masters...), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name+".json", append(facts, '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
}

func goldenStreams() []buffer.Stream {
	return []buffer.Stream{
		{Name: "orders", Drains: []string{"mail", "sms"}, KeepDelivered: goldenKeep, DeadKeep: goldenKeep},
		{Name: "logs", Drains: []string{"archive"}, KeepDelivered: goldenKeep, DeadKeep: goldenKeep},
	}
}

func goldenOpen(t *testing.T, dir string, masters ...buffer.MasterKey) *buffer.Engine {
	t.Helper()
	e := open(t, dir, masters...)
	if err := e.Configure(goldenStreams()); err != nil {
		t.Fatal(err)
	}
	return e
}

func goldenOnce(n int) buffer.OnceKey {
	k := onceKeyOf(n)
	k.Body, k.TTL = [8]byte{byte(n)}, goldenKeep
	return k
}

// goldenDir is a directory with all there is to store, as a crash leaves it.
func goldenDir(t *testing.T, masters ...buffer.MasterKey) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	e := goldenOpen(t, dir, masters...)
	goldenFirst(t, e)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	e = goldenOpen(t, dir, masters...)
	for n := range 12 { // blocks that are small, for a rewrite
		appendSome(t, e, "logs", noon.Add(3*time.Hour), noise(uint64(100+n), 1500))
	}
	finishBut(t, e, "archive", func(offset uint64) bool { return offset%3 == 0 })
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	e = goldenOpen(t, dir, masters...)
	waitFor(t, "small blocks are rewritten", func() bool {
		rewriteAll(t, e)
		return rewrittenBlocks(t, dir) > 0
	})
	if err := e.Close(); err != nil { // so that a sealed segment has them
		t.Fatal(err)
	}
	e = goldenOpen(t, dir, masters...)
	goldenLast(t, e)
	dir = crashed(t, e, dir)
	tear(t, dir)
	for _, kind := range []string{"seg-*/INDEX", "seg-*/KEYS", "seg-*/USED", "seg-*/*.mem", "once/*.once", "once/*.filter", "outcomes/*.out", "outcomes/*.ans", "NAMES", "KEY"} {
		files(t, dir, kind)
	}
	if rewrittenBlocks(t, dir) == 0 {
		t.Fatal("no block of it is a rewritten one")
	}
	return dir
}

func appendSome(t *testing.T, e *buffer.Engine, stream string, at time.Time, msgs ...buffer.Message) {
	t.Helper()
	if _, err := e.Append(t.Context(), stream, at, msgs); err != nil {
		t.Fatal(err)
	}
}

// goldenFirst is what ends in a sealed segment.
func goldenFirst(t *testing.T, e *buffer.Engine) {
	t.Helper()
	head := []buffer.Field{{Name: "Content-Type", Value: "application/json"}, {Name: "X-Shop", Value: "north"}}
	batch := make([]buffer.Message, 5)
	for i := range batch {
		batch[i] = order(i)
		batch[i].Header, batch[i].Batch, batch[i].Index = head, "batch-1", i
	}
	appendSome(t, e, "orders", noon, batch...)
	for n := 5; n < 20; n++ {
		m := order(n)
		m.Key, m.KeepAnswer = fmt.Sprint("customer ", n%6), 200
		if n%4 == 0 {
			m.CancelKeys = []string{fmt.Sprint("sku ", n), "spring"}
		}
		if _, _, err := e.AppendOnce(t.Context(), "orders", noon.Add(time.Duration(n)*time.Second), []buffer.Message{m}, goldenOnce(n)); err != nil {
			t.Fatal(err)
		}
	}
	for n := range 4 {
		appendSome(t, e, "logs", noon.Add(time.Duration(n)*time.Hour), order(50+n))
	}
	ds, _, err := e.Take("mail", noon.Add(time.Minute), 11)
	if err != nil || len(ds) != 11 {
		t.Fatal(len(ds), err)
	}
	for i, d := range ds {
		r := buffer.Result{At: noon.Add(2 * time.Minute), FirstAt: noon.Add(time.Minute), Attempts: 1 + i%2, Status: 200 + i}
		switch i % 5 {
		case 1:
			e.Release("mail", d.Offset, buffer.Retry{Due: noon.Add(time.Hour), Tries: buffer.Tries{Attempts: 2, Answers: 1, FirstAt: noon}, Status: 503, Error: "busy"})
		case 2:
			r.Error = "no such article"
			e.Bury("mail", d.Offset, buffer.ReasonPermanent, r)
		case 3:
			e.Return("mail", d.Offset)
		default:
			r.Answer = &buffer.Answer{Header: []buffer.Field{{Name: "X-Order", Value: fmt.Sprint(d.Offset)}}, Body: fmt.Appendf(nil, "stored as %d", d.Offset), Truncated: i == 4}
			e.Ack("mail", d.Offset, r)
		}
	}
	_, _, expired := e.Expire("archive", noon.Add(2*time.Hour), noon.Add(30*time.Minute), "")
	_, _, dead := e.Expire("archive", noon.Add(2*time.Hour), noon.Add(90*time.Minute), buffer.ReasonMaxAge)
	cancelled := e.Cancel(t.Context(), buffer.Ref{Stream: "orders", Offset: 17}, noon.Add(time.Hour))
	n, byKey := e.CancelKey(t.Context(), "orders", "sku 16", noon.Add(time.Hour))
	if err := errors.Join(e.Settled(), expired, dead, cancelled, byKey); err != nil || n != 1 {
		t.Fatal(n, err)
	}
}

// goldenLast is what is in the open segment.
func goldenLast(t *testing.T, e *buffer.Engine) {
	t.Helper()
	ctx, late := t.Context(), noon.Add(4*time.Hour)
	letters, _, err := e.Dead("mail", ^uint64(0), 10)
	if err != nil || len(letters) < 2 {
		t.Fatal(letters, err)
	}
	again, replayed := e.Replay(ctx, "mail", []uint64{letters[0].Offset}, late)
	_, _, appended := e.AppendOnce(ctx, "orders", late, []buffer.Message{order(70), noise(71, 3000)}, goldenOnce(70))
	if err := errors.Join(replayed, appended); err != nil || again != 1 {
		t.Fatal(again, err)
	}
	ds, _, err := e.Take("sms", late, 4)
	if err != nil || len(ds) != 4 {
		t.Fatal(len(ds), err)
	}
	e.Ack("sms", ds[0].Offset, buffer.Result{At: late, Attempts: 1, Status: 204})
	e.Bury("sms", ds[1].Offset, buffer.ReasonMaxAttempts, buffer.Result{At: late, Attempts: 9, Status: 500, Error: "down"})
	e.Release("sms", ds[2].Offset, buffer.Retry{Due: late.Add(time.Hour), Tries: buffer.Tries{Attempts: 1, FirstAt: late}, Error: "refused"})
	if err := e.Settled(); err != nil { // the fourth stays in flight
		t.Fatal(err)
	}
}

// rewrittenBlocks counts those in all logs.
func rewrittenBlocks(t *testing.T, dir string) (n int) {
	t.Helper()
	for _, path := range files(t, dir, "seg-*/"+segment.LogFile) {
		b, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		for at := bytes.Index(b, []byte("FBLK")); at >= 0; {
			if h := block.Peek(b[at:]); h.Kind == block.Messages && h.Flags&block.Rewritten != 0 {
				n++
			}
			next := bytes.Index(b[at+1:], []byte("FBLK"))
			if next < 0 {
				break
			}
			at += 1 + next
		}
	}
	return n
}

// tear leaves the beginning of a block behind the last one of the newest log.
func tear(t *testing.T, dir string) {
	t.Helper()
	logs := files(t, dir, "seg-*/"+segment.LogFile)
	edit(t, logs[len(logs)-1], func(b []byte) {
		at := bytes.LastIndex(b, []byte("FBLK"))
		n, _ := block.Length(b[at:])
		copy(b[segment.End(uint32(at), uint32(n)):], b[at-20:at+90])
	})
}

// factsOf opens a directory, looks at all there is, takes the rest, and says what it saw.
func factsOf(t *testing.T, dir string, masters ...buffer.MasterKey) map[string][]string {
	t.Helper()
	work := filepath.Join(t.TempDir(), "work")
	copyTree(t, dir, work)
	v := wantSound(t, work, masters...)
	facts := map[string][]string{"verify": {fmt.Sprintf("segments %d, messages %d, encrypted %v, in the clear %d", v.Segments, v.Messages, v.Encrypted, v.Clear)}}
	e := goldenOpen(t, work, masters...)
	say := func(about, format string, args ...any) {
		facts[about] = append(facts[about], fmt.Sprintf(format, args...))
	}
	r := e.Recovery()
	say("recovery", "segments %d, scanned %d, messages %d, damaged %d, carried %d, clear %d, lost %d", r.Segments, r.Scanned, r.Messages, r.Damaged, r.Carried, r.Clear, r.Lost)
	late := noon.Add(4 * time.Hour)
	goldenLedger(t, e, "ledger", say)
	goldenReceipts(t, e, late, say)
	goldenLookups(t, e, late, say)
	for _, drain := range []string{"mail", "sms", "archive"} {
		letters, _, err := e.Dead(drain, ^uint64(0), 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range letters {
			_, m, err := e.DeadMessage(drain, d.Offset)
			say("dead", "%s %d id %s: %s, %d, %d attempts, %q, key %q, at %s, accepted %s; %s %v", drain, d.Offset, d.ID, d.Reason, d.Status, d.Attempts, d.Error, d.Key, stamp(d.At), stamp(d.AcceptedAt), messageText(m), err)
		}
		goldenTake(t, e, drain, noon.Add(100*time.Hour), say)
	}
	if err := e.Settled(); err != nil {
		t.Fatal(err)
	}
	goldenLedger(t, e, "ledger when all is taken", say)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	return facts
}

func stamp(at time.Time) string { return at.UTC().Format("02 15:04:05") }

func messageText(m buffer.Message) string {
	sum := sha256.Sum256(m.Body)
	return fmt.Sprintf("%s %s %v, body of %d bytes %x, key %q, cancel %q, keeps %d", m.Method, m.Target, m.Fields(), len(m.Body), sum[:8], m.Key, m.CancelKeys, m.KeepAnswer)
}

func goldenLedger(t *testing.T, e *buffer.Engine, about string, say func(about, format string, args ...any)) {
	t.Helper()
	accounts, err := e.Audit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range accounts {
		say(about, "%s %s: accepted %d, delivered %d, expired %d, cancelled %d, dead %d, buffered %d, imbalance %d", a.Stream, a.Drain, a.Accepted, a.Delivered, a.Expired, a.Cancelled, a.Dead, a.Buffered, a.Imbalance())
	}
}

func goldenReceipts(t *testing.T, e *buffer.Engine, now time.Time, say func(about, format string, args ...any)) {
	t.Helper()
	for _, s := range e.Stats().Streams {
		for offset := range s.Accepted {
			ref := buffer.Ref{Stream: s.Stream, Offset: offset}
			st, err := e.Find(ref, now)
			if err != nil {
				t.Errorf("receipt of %v: %v", ref, err)
			}
			for _, d := range st.Drains {
				say("receipts", "%s %d id %s accepted %s, %s: %s, %d ahead, %d attempts, %d %q, due %s, at %s, answer %s", s.Stream, offset, e.ID(ref), stamp(st.AcceptedAt),
					d.Drain, d.State, d.Ahead, d.Attempts, d.Status, d.Error, stamp(d.Due), stamp(d.At), answerText(d.Answer))
			}
		}
	}
}

func answerText(a *buffer.Answer) string {
	if a == nil {
		return "none"
	}
	return fmt.Sprintf("%v %q %v", a.Header, a.Body, a.Truncated)
}

func goldenLookups(t *testing.T, e *buffer.Engine, now time.Time, say func(about, format string, args ...any)) {
	t.Helper()
	for _, n := range []int{5, 6, 19, 70, 99} {
		a, err := e.Lookup(t.Context(), "orders", goldenOnce(n).Key, now)
		say("idempotency keys", "%d: from %d, %d messages, at %s, %v", n, a.First, a.Count, stamp(a.At), err)
	}
	other := goldenOnce(6)
	other.Body[0]++
	if _, _, err := e.AppendOnce(t.Context(), "orders", now, []buffer.Message{order(6)}, other); !errors.Is(err, buffer.ErrMismatch) {
		t.Errorf("an idempotency key with another request: %v", err)
	}
	for _, key := range []string{"customer 0", "customer 1", "customer 5", "sku 8", "spring"} {
		refs, err := e.FindKey(t.Context(), "orders", key, 100)
		say("keys", "%s: %v, %v", key, refs, err)
	}
}

// goldenTake takes and acks all of a drain.
func goldenTake(t *testing.T, e *buffer.Engine, drain string, now time.Time, say func(about, format string, args ...any)) {
	t.Helper()
	for {
		ds, _, err := e.Take(drain, now, 100)
		if err != nil {
			t.Fatal(err)
		}
		if len(ds) == 0 {
			return
		}
		for _, d := range ds {
			say("taken by "+drain, "%d accepted %s, %d attempts, %d answers, first at %s: %s", d.Offset, stamp(d.AcceptedAt), d.Tries.Attempts, d.Tries.Answers, stamp(d.Tries.FirstAt), messageText(d.Message))
			e.Ack(drain, d.Offset, buffer.Result{At: now, Attempts: d.Tries.Attempts + 1, Status: 200})
		}
	}
}

// pack makes an archive of a directory. Runs of zeros, of what is reserved, cost nothing.
func pack(t *testing.T, dir, path string) {
	t.Helper()
	var out bytes.Buffer
	zipped, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(zipped)
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		rel, rerr := filepath.Rel(dir, path)
		if err = errors.Join(err, rerr); err != nil || d.IsDir() || rel == "BALLAST" {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := w.WriteHeader(&tar.Header{Name: filepath.ToSlash(rel), Size: int64(len(b)), Mode: 0o600}); err != nil {
			return err
		}
		_, err = w.Write(b)
		return err
	})
	if err = errors.Join(err, w.Close(), zipped.Close(), os.MkdirAll(filepath.Dir(path), 0o750), os.WriteFile(path, out.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
}

func extract(t *testing.T, archive, dir string) {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	zipped, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(zipped); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, filepath.FromSlash(h.Name))
		b, err := io.ReadAll(r)
		if err = errors.Join(err, os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, b, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
}
