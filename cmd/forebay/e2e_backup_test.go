package main_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// found is what the tests look at of forebay verify -o json.
type found struct {
	Sound    bool `json:"sound"`
	Messages int  `json:"messages"`
	Damage   []struct {
		File     string `json:"file"`
		Stream   string `json:"stream"`
		Harmless bool   `json:"harmless"`
	} `json:"damage"`
	Lost []struct {
		Stream, Drain string
		Messages      int
	} `json:"lost"`
}

// verify looks into a directory; code is what it has to exit with.
func verify(t *testing.T, dir string, code int, flags ...string) (f found) {
	t.Helper()
	stdout, stderr, got := command(t, append([]string{"verify", "--data", dir, "-o", "json"}, flags...)...)
	if got != code {
		t.Fatalf("forebay verify = %d, want %d\n%s%s", got, code, stdout, stderr)
	}
	if err := json.Unmarshal([]byte(stdout), &f); err != nil && code != 1 {
		t.Fatalf("forebay verify -o json: %v\n%s", err, stdout)
	}
	return f
}

// posting is callers who post one order after the other, until one is refused.
type posting struct {
	acked atomic.Int64
	wg    sync.WaitGroup
}

func keepPosting(t *testing.T, public string, orders [][]byte, callers int) *posting {
	p, c := &posting{}, newCaller(t, callers)
	for i := range callers {
		p.wg.Go(func() {
			for n := i; ; n += callers {
				if _, err := c.post(public, orders[n%len(orders)]); err != nil {
					return // the server was killed
				}
				p.acked.Add(1)
			}
		})
	}
	return p
}

func (p *posting) wait() { p.wg.Wait() }

// A backup is taken while callers post; the program is killed; what was restored
// elsewhere is sound, and all that was accepted before the backup began is delivered
// from there, with the ids that its callers have.
func TestBackupWhileServing(t *testing.T) {
	t.Parallel()
	first := newSite(t, orderPolicy("http://127.0.0.1:1", "0"))
	srv := first.start()
	orders := realOrders(t)
	receipts := postAll(t, srv.public, orders, 8)
	if _, stderr, code := command(t, "drains", "pause", "orders-to-shop", "--reason", "kept", "--admin-url", srv.admin); code != 0 {
		t.Fatalf("pause: exit %d\n%s", code, stderr)
	}
	callers := keepPosting(t, srv.public, orders, 8)
	until(t, 30*time.Second, "the callers get on", func() bool { return callers.acked.Load() > 100 })
	file := first.path("orders.backup")
	stdout, stderr, code := command(t, "backup", "--to", file, "--reason", "INC-1", "--admin-url", srv.admin)
	if code != 0 || !strings.Contains(stdout, "backed up") {
		t.Fatalf("backup: exit %d\n%s%s", code, stdout, stderr)
	}
	after := callers.acked.Load()
	until(t, 30*time.Second, "the callers get on", func() bool { return callers.acked.Load() > after+50 })
	if stdout, _, _ := command(t, "events", "--admin-url", srv.admin); !strings.Contains(stdout, "backup") || !strings.Contains(stdout, "INC-1") {
		t.Errorf("the operator log does not say that a backup was taken:\n%s", stdout)
	}
	if _, stderr, code := command(t, "verify", "--data", first.data()); code != 1 || !strings.Contains(stderr, "in use by process") || !strings.Contains(stderr, "hint: stop the server") {
		t.Errorf("verify of what is served = %d\n%s", code, stderr)
	}
	if _, stderr, code := command(t, "encryption", "new-key", first.path("key")); code != 0 {
		t.Fatalf("new-key: exit %d\n%s", code, stderr)
	}
	if _, stderr, code := command(t, "encryption", "rotate", "--data", first.data(), "--key-file", first.path("key")); code != 1 || !strings.Contains(stderr, "in use by process") || !strings.Contains(stderr, "hint: stop the server") {
		t.Errorf("rotate of what is served = %d\n%s", code, stderr)
	}
	srv.kill()
	callers.wait()

	shop := newSink(t, nil)
	second := newSite(t, orderPolicy(shop.url, "2000/s"))
	if stdout, stderr, code := command(t, "restore", "--from", file, "--data", second.data()); code != 0 {
		t.Fatalf("restore: exit %d\n%s%s", code, stdout, stderr)
	}
	if got := verify(t, second.data(), 0); !got.Sound || got.Messages < len(orders)+100 {
		t.Errorf("verify = %+v, want at least %d messages", got, len(orders)+100)
	}
	again := second.start()
	if _, stderr, code := command(t, "drains", "resume", "orders-to-shop", "--admin-url", again.admin); code != 0 {
		t.Fatalf("resume: exit %d\n%s", code, stderr)
	}
	settle(t, again, 30*time.Second)
	mine := make(map[string]bool, len(receipts))
	for _, r := range receipts {
		mine[r.ID] = true
	}
	var log []arrival
	for _, a := range shop.arrivals() {
		if mine[a.ID] {
			log = append(log, a)
		}
	}
	wantOnce(t, log, orders, receipts)
	c := newCaller(t, 1)
	for _, r := range []receipt{receipts[0], receipts[len(receipts)-1]} {
		if got := getReceipt(t, c, again.public, r.ID); got.State != "delivered" {
			t.Errorf("receipt %s is %s, want delivered", r.ID, got.State)
		}
	}
	again.stop()
	verify(t, second.data(), 0)
}

// A pause is in the backup: what someone holds back is not delivered elsewhere.
// Nothing is overwritten, neither by a backup nor by a restore.
func TestBackupOverwritesNothing(t *testing.T) {
	shop := newSink(t, nil)
	s := newSite(t, orderPolicy("http://127.0.0.1:1", "0"))
	srv := s.start()
	postAll(t, srv.public, realOrders(t)[:3], 1)
	if _, stderr, code := command(t, "drains", "pause", "orders-to-shop", "--reason", "kept", "--admin-url", srv.admin); code != 0 {
		t.Fatalf("pause: exit %d\n%s", code, stderr)
	}
	file := s.path("orders.backup")
	if _, stderr, code := command(t, "backup", "--to", file, "--admin-url", srv.admin); code != 0 {
		t.Fatalf("backup: exit %d\n%s", code, stderr)
	}
	before := snapshot(t, s.dir)
	if _, stderr, code := command(t, "backup", "--to", file, "--admin-url", srv.admin); code != 1 || !strings.Contains(stderr, "overwrites nothing") {
		t.Errorf("backup over a file = %d\n%s", code, stderr)
	}
	if diff := cmp.Diff(before[file], snapshot(t, s.dir)[file]); diff != "" {
		t.Errorf("the file was touched:\n%s", diff)
	}
	if _, stderr, code := command(t, "restore", "--from", file, "--data", s.data()); code != 1 || !strings.Contains(stderr, "is not empty") {
		t.Errorf("restore over a buffer = %d\n%s", code, stderr)
	}
	srv.kill()

	second := newSite(t, orderPolicy(shop.url, "2000/s"))
	if _, stderr, code := command(t, "restore", "--from", file, "--data", second.data()); code != 0 {
		t.Fatalf("restore: exit %d\n%s", code, stderr)
	}
	again := second.start()
	if stdout, _, _ := command(t, "drains", "list", "--admin-url", again.admin); !strings.Contains(stdout, "paused") {
		t.Errorf("the pause is not there:\n%s", stdout)
	}
	if n := shop.count(); n > 0 {
		t.Errorf("%d messages were delivered of a paused drain", n)
	}
}

// A backup takes the admin token, and a server that is not asked for it by a page.
func TestBackupNeedsToken(t *testing.T) {
	s := newSite(t, orderPolicy("http://127.0.0.1:1", "0"))
	s.write("token", "anna s3cret-s3cret\n")
	s.write("forebay.yaml", "version: 1\nbuffer: { segment_bytes: 1MiB }\nlisten: { admin: { token_file: "+s.path("token")+" } }\nshutdown: { delay: 200ms, timeout: 5s }\n")
	s.write("client", "s3cret-s3cret\n")
	srv := s.start()
	file := s.path("orders.backup")
	if _, stderr, code := command(t, "backup", "--to", file, "--admin-url", srv.admin); code != 1 || !strings.Contains(stderr, "--token-file") {
		t.Errorf("backup without a token = %d\n%s", code, stderr)
	}
	if names, _ := filepath.Glob(s.path(".orders*")); len(names) > 0 {
		t.Errorf("left behind: %v", names)
	}
	if r, err := newCaller(t, 1).do(http.MethodGet, srv.admin+"/api/v1/backup", nil); err != nil || r.status == http.StatusOK {
		t.Errorf("GET = %d, %v", r.status, err)
	}
	if _, stderr, code := command(t, "backup", "--to", file, "--token-file", s.path("client"), "--admin-url", srv.admin); code != 0 {
		t.Errorf("backup with a token = %d\n%s", code, stderr)
	}
}

// verify names the file, the stream and how much is lost, and says so in its exit
// code.
func TestVerifyFindsDamage(t *testing.T) {
	t.Parallel()
	s := withBacklog(t)
	if got := verify(t, s.data(), 0); !got.Sound || got.Messages != 64 {
		t.Errorf("verify of a stopped server's directory = %+v", got)
	}
	logs, err := filepath.Glob(filepath.Join(s.data(), "seg-*", "*.vlog"))
	if err != nil || len(logs) == 0 {
		t.Fatalf("no logs: %v", err)
	}
	raw, err := os.ReadFile(logs[0])
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)/2] ^= 1
	if err := os.WriteFile(logs[0], raw, 0o600); err != nil {
		t.Fatal(err)
	}
	got := verify(t, s.data(), 3)
	if got.Sound || len(got.Damage) != 1 || got.Damage[0].Stream != "orders" || got.Damage[0].Harmless ||
		filepath.Join(s.data(), got.Damage[0].File) != logs[0] {
		t.Errorf("damage = %+v", got.Damage)
	}
	if len(got.Lost) != 1 || got.Lost[0].Drain != "orders-to-shop" || got.Lost[0].Messages < 1 {
		t.Errorf("lost = %+v", got.Lost)
	}
	if stdout, _, code := command(t, "verify", "--data", s.data()); code != 3 || !strings.Contains(stdout, "orders-to-shop") {
		t.Errorf("verify = %d\n%s", code, stdout)
	}
	if err := os.Remove(logs[0]); err != nil {
		t.Fatal(err)
	}
	if stdout, _, code := command(t, "verify", "--data", s.data()); code != 3 || !strings.Contains(stdout, "a start refuses this directory") || strings.Contains(stdout, "no message is lost") {
		t.Errorf("verify of what a start refuses = %d\n%s", code, stdout)
	}
	for _, args := range [][]string{{"verify"}, {"backup"}, {"restore", "--from", "x"}, {"verify", "--data", "x", "y"}} {
		if _, stderr, code := command(t, args...); code != 2 {
			t.Errorf("forebay %v = %d\n%s", args, code, stderr)
		}
	}
}
