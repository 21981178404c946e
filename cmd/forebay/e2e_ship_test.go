package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
)

// shipment holds the fields of what forebay ship prints that these tests look at.
type shipment struct {
	Files, Lines, Batches, Duplicates, Rejected int64
	LostBytes                                   int64 `json:"lost_bytes"`
	Interrupted                                 bool
}

func readShipment(t *testing.T, stdout string) (s shipment) {
	t.Helper()
	if err := json.Unmarshal([]byte(stdout), &s); err != nil {
		t.Fatalf("forebay ship printed %q: %v", stdout, err)
	}
	return s
}

// A batchStore takes each batch once, and now and then says so to nobody.
type batchStore struct {
	t *testing.T

	mu    sync.Mutex
	rng   *rand.Rand
	names map[string]string
	lines map[string][]string // by file
	total int
	again int
}

func (b *batchStore) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var body bytes.Buffer
	gz, err := gzip.NewReader(r.Body)
	if err == nil {
		_, err = body.ReadFrom(gz)
	}
	if err != nil {
		return // whoever sent it was killed
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	chance := b.rng.IntN(40)
	if chance == 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	name := r.Header.Get("Batch-Id")
	before, again := b.names[name]
	switch {
	case !again:
		b.names[name] = body.String()
		file, _, _ := strings.Cut(name, ":")
		lines := strings.Split(strings.TrimSuffix(body.String(), "\n"), "\n")
		b.lines[file] = append(b.lines[file], lines...)
		b.total += len(lines)
	case before != body.String():
		b.t.Errorf("batch %s is not what it was", name)
	default:
		b.again++
	}
	if chance == 1 {
		panic(http.ErrAbortHandler)
	}
	w.WriteHeader(http.StatusAccepted)
}

func (b *batchStore) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.total
}

// Whatever a kill hits, each line of a file that is rotated meanwhile is stored once,
// and the lines of a file in their order.
func TestTortureShip(t *testing.T) {
	t.Parallel()
	seed := uint64(envInt(t, "FOREBAY_TORTURE_SEED", int(time.Now().UnixNano())))
	rng := rand.New(rand.NewPCG(seed, 0))
	store := &batchStore{t: t, rng: rand.New(rand.NewPCG(seed, 1)), names: map[string]string{}, lines: map[string][]string{}}
	srv := &http.Server{Handler: store}
	ln := listen(t)
	go func() { _ = srv.Serve(ln) }() // ends with the listener
	t.Cleanup(func() { _ = srv.Close() })
	dir := t.TempDir()
	args := []string{
		"ship", filepath.Join(dir, "*.log*"), "--to", "http://" + ln.Addr().String() + "/v1/logs", "--state", filepath.Join(dir, "state"),
		"--batch-wait", "1ms", "--batch-bytes", "8KiB", "--max-line", "1KiB", "-o", "json",
	}
	written := 0
	write := func(lines int) {
		f, err := os.OpenFile(filepath.Join(dir, "app.log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for range lines {
			fmt.Fprintf(f, "%06d %s\n", written, strings.Repeat("x", rng.IntN(60)))
			written++
		}
	}
	kills := envInt(t, "FOREBAY_TORTURE_KILLS", 4)
	for i := range kills {
		write(500 + rng.IntN(1000))
		cmd := exec.Command(forebay(t), args...)
		cmd.Env = cleanEnv()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		before := store.count()
		enough := before + rng.IntN(written-before)
		until(t, 30*time.Second, "it ships", func() bool { return store.count() >= enough })
		write(rng.IntN(300))
		if i%3 == 1 {
			if err := os.Rename(filepath.Join(dir, "app.log"), filepath.Join(dir, fmt.Sprintf("app.log.%d", i))); err != nil {
				t.Fatal(err)
			}
			write(100)
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	}
	stdout, stderr, code := command(t, append(args, "--once")...)
	if s := readShipment(t, stdout); code != 0 || s.Rejected+s.LostBytes != 0 {
		t.Fatalf("ship --once = exit %d, %s%s", code, stdout, stderr)
	}
	seen := make([]int, written)
	for file, lines := range store.lines {
		last := -1
		for _, line := range lines {
			var n int
			if _, err := fmt.Sscanf(line, "%06d ", &n); err != nil || n <= last || n >= written {
				t.Fatalf("%s: %q after %d, %v", file, line, last, err)
			}
			last = n
			seen[n]++
		}
	}
	for n, times := range seen {
		if times != 1 {
			t.Errorf("line %d is stored %d times", n, times)
		}
	}
	fmt.Printf("torture: ship, FOREBAY_TORTURE_SEED=%d: %d kills, %d lines stored once, %d batches of which %d were sent again\n", seed, kills, written, len(store.names), store.again)
}

// Into the program: with a key, a bad line, and an end that was asked for. What was
// taken is not taken again where the state is lost from under it, as by a kill.
func TestShip(t *testing.T) {
	t.Parallel()
	shop := newSink(t, nil)
	srv := newSite(t, clauses{route: "split: ndjson, max_body: 1MiB, max_inflated: 1MiB"}.policy(shop.url, "5000/s")).start()
	dir := t.TempDir()
	orders, err := os.ReadFile(filepath.Join("demo", "orders.ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	log, state := filepath.Join(dir, "orders.log"), filepath.Join(dir, "state")
	if err := os.WriteFile(log, append(orders, "no JSON\n{\"order\":1}\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"ship", log, "--to", srv.public + "/v1/orders", "--kind", "ndjson", "--state", state, "--compression", "zstd", "-o", "json"}
	cmd := exec.Command(forebay(t), args...)
	cmd.Env = cleanEnv()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() }) // it may have ended
	until(t, 30*time.Second, "the orders are accepted", func() bool { return audit(t, srv).Accepted == 513 })
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("ship after SIGTERM: %v\n%s", err, &stderr)
	}
	if s := readShipment(t, stdout.String()); s.Lines != 513 || s.Rejected != 1 || !s.Interrupted || !strings.Contains(stderr.String(), "line 1 is not JSON") {
		t.Errorf("ship printed %s%s", &stdout, &stderr)
	}
	if rejected, err := os.ReadFile(state + ".rejected"); err != nil || !strings.Contains(string(rejected), `"line":"no JSON"`) {
		t.Errorf("rejected = %s, %v", rejected, err)
	}
	forget(t, state)
	again, said, code := command(t, append(args, "--once")...)
	if s := readShipment(t, again); code != 3 || s.Duplicates != 1 || s.Rejected != 1 {
		t.Errorf("ship from an older state = exit %d, %s%s, want 3 and one batch that was there", code, again, said)
	}
	if got := audit(t, srv); got.Accepted != 513 {
		t.Errorf("%d messages were accepted, want 513", got.Accepted)
	}
}

// forget takes a state back to before its last batch but one was answered: those of 513
// orders are the first 512, a bad line, and one.
func forget(t *testing.T, path string) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if err := json.Unmarshal(raw, &doc); err != nil {
		t.Fatal(err)
	}
	file := doc["files"].([]any)[0].(map[string]any)
	acked := int(file["acked"].(float64))
	last := acked - len("{\"order\":1}\n")
	file["acked"], file["waiting"] = last-len("no JSON\n"), []int{last, acked}
	if raw, err = json.Marshal(doc); err == nil {
		err = os.WriteFile(path, raw, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}
