package app

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"forebay/cmd/forebay/admin"
	"forebay/cmd/forebay/config"
	"forebay/limiter"
)

// reloads replaces the policy and has it loaded.
func (r *running) reloads(t *testing.T, policy string) {
	t.Helper()
	if err := os.WriteFile(r.policy, []byte(policy), 0o600); err != nil {
		t.Fatal(err)
	}
	r.acts(t, "POST /reload")
}

// acts does what a line says: method, path and body.
func (r *running) acts(t *testing.T, line string) {
	t.Helper()
	method, rest, _ := strings.Cut(line, " ")
	path, body, _ := strings.Cut(rest, " ")
	if code := r.act(t, method, path, body, nil); code != http.StatusOK {
		t.Fatalf("%s = %d, want 200", line, code)
	}
}

func (r *running) stop(t *testing.T) {
	t.Helper()
	r.cancel()
	if err := <-r.ended; err != nil {
		t.Fatal(err)
	}
}

// said returns the events of one kind.
func (r *running) said(t *testing.T, kind string) (list []string) {
	t.Helper()
	for _, e := range r.events(t) {
		if strings.HasPrefix(e, kind+" | ") {
			list = append(list, e)
		}
	}
	return list
}

// wantHeld checks that drain and stream are held back as TestHeldBackWhileLeftOut
// does it.
func (r *running) wantHeld(t *testing.T, when, state, streamState string) {
	t.Helper()
	d := r.drain(t)
	if d.State != state || d.Paused == nil || d.Paused.Reason != "INC-1" || d.DeliveredTotal != 0 {
		t.Errorf("%s the drain is %+v, want %s and paused for INC-1", when, d, state)
	}
	var streams []admin.Stream
	r.get(t, "/api/v1/streams", &streams)
	for _, s := range streams {
		if s.Name == "orders" && (s.State != streamState || s.Closed == nil || s.Closed.Reason != "INC-2") {
			t.Errorf("%s the stream is %+v, want %s and closed for INC-2", when, s, streamState)
		}
	}
}

// TestHeldBackWhileLeftOut leaves a drain and its stream out of the policy, by a
// reload and at a start: what operators hold back stays so until that is ended.
func TestHeldBackWhileLeftOut(t *testing.T) {
	with := policyText(newShop(t).url, "1000/s")
	without := strings.ReplaceAll(with, "orders", "parcels")
	dir := filepath.Join(t.TempDir(), "data")
	data := config.Flag{Setting: "buffer.dir", Value: dir}

	r := start(t, with, data)
	r.acts(t, `POST /drains/orders/pause {"reason":"INC-1"}`)
	r.reloads(t, without)
	r.reloads(t, with)
	r.post(t, "x")
	r.acts(t, `POST /streams/orders/close {"reason":"INC-2"}`)
	r.wantHeld(t, "after two reloads", "paused", "closed")
	r.stop(t)

	r = start(t, without, data)
	r.wantHeld(t, "left out at a start", "orphaned", "orphaned")
	r.acts(t, `PUT /drains/orders/rate {"rate":50,"for_seconds":3600,"reason":"INC-3"}`)
	var why admin.Why
	if code := r.get(t, "/api/v1/drains/orders/why", &why); code != http.StatusOK {
		t.Fatalf("why of an orphaned drain = %d", code)
	}
	if why.Binding != "" || why.Head == nil || why.Head.State != "queued" || len(why.Constraints) != 2 ||
		why.Constraints[0].Name != "paused" || why.Constraints[1].Name != "override" {
		t.Errorf("why of an orphaned drain = %+v", why)
	}
	r.stop(t)

	r = start(t, with, data)
	r.wantHeld(t, "back at a start", "paused", "closed")
	if o := r.drain(t).Override; o == nil || o.Rate != admin.Rate(limiter.Rate(50)) || o.Reason != "INC-3" {
		t.Errorf("what was laid on the orphaned drain is %+v, want 50/s for INC-3", o)
	}
	r.acts(t, `DELETE /drains/orders/rate`)
	r.stop(t)

	r = start(t, without, data)
	r.acts(t, `POST /drains/orders/drop {"reason":"INC-4"}`)
	r.acts(t, `POST /streams/orders/drop {"reason":"INC-5"}`)
	want := []string{"drain-drop | orders | local | INC-4 | 1 message cancelled; the paused hold on drain orders (INC-1) is ended"}
	if diff := cmp.Diff(want, r.said(t, "drain-drop")); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	want = []string{"stream-drop | orders | local | INC-5 | 0 messages cancelled; stream orders is not closed any more"}
	if diff := cmp.Diff(want, r.said(t, "stream-drop")); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if c, err := readControl(dir); err != nil || len(c.Drains)+len(c.Streams) != 0 {
		t.Errorf("after the drops %s has %+v, %v; want nothing", controlFile, c, err)
	}
	for _, line := range []string{"POST /drains/orders/drop", "POST /streams/orders/drop", "POST /drains/orders/pause"} {
		method, path, _ := strings.Cut(line, " ")
		if code := r.act(t, method, path, `{"reason":"INC-6"}`, nil); code != http.StatusNotFound {
			t.Errorf("%s of what is gone = %d, want 404", line, code)
		}
	}
}

// TestDropKeepsWhatHoldsInThePolicy gives up a backlog: new messages are held back
// as before.
func TestDropKeepsWhatHoldsInThePolicy(t *testing.T) {
	r := start(t, policyText(newShop(t).url, "1000/s"))
	r.acts(t, `POST /drains/orders/pause {"reason":"INC-1"}`)
	r.post(t, "x")
	r.acts(t, `POST /streams/orders/close {"reason":"INC-2"}`)
	r.acts(t, `POST /drains/orders/drop {"reason":"INC-3"}`)
	r.acts(t, `POST /streams/orders/drop {"reason":"INC-3"}`)
	r.wantHeld(t, "after the drops", "paused", "closed")
}

// TestEndedWhileDown has a pause and an override end while nobody runs.
func TestEndedWhileDown(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	text := `{"version":1,"drains":[
{"drain":"orders","kind":"paused","until":"2026-01-02T03:04:05Z","reason":"INC-1"},
{"drain":"orders","kind":"override","rate":5,"until":"2026-01-02T04:04:05Z","reason":"INC-2"}]}`
	if err := os.WriteFile(filepath.Join(dir, controlFile), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r := start(t, policyText(newShop(t).url, "1000/s"), config.Flag{Setting: "buffer.dir", Value: dir})
	until(t, "both are told", func() bool {
		return len(r.said(t, "paused-ended")) == 1 && len(r.said(t, "override-ended")) == 1
	})
	got := append(r.said(t, "paused-ended"), r.said(t, "override-ended")...)
	want := []string{
		"paused-ended | orders | forebay |  | INC-1, until 2026-01-02T03:04:05Z",
		"override-ended | orders | forebay |  | INC-2, until 2026-01-02T04:04:05Z",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if c, err := readControl(dir); err != nil || len(c.Drains) != 0 {
		t.Errorf("%s has %+v, %v; want no holds", controlFile, c, err)
	}
}
