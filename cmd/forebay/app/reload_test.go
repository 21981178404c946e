package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"forebay/buffer"
	"forebay/cmd/forebay/admin"
	"forebay/policies"
)

// fakeEngine records what it is told and holds what a test says.
type fakeEngine struct {
	stats buffer.Stats
	calls []string // streams with their drains, one entry a call
	err   error    // of Configure
}

func (e *fakeEngine) Configure(streams []buffer.Stream) error {
	var call []string
	for _, s := range streams {
		call = append(call, fmt.Sprintf("%s%v", s.Name, s.Drains))
	}
	e.calls = append(e.calls, strings.Join(call, " "))
	return e.err
}

func (e *fakeEngine) Stats() buffer.Stats { return e.stats }

func simplePolicy(streams ...string) string {
	var b strings.Builder
	b.WriteString("version: 1\nsinks: [{ name: k, http: { urls: [\"http://127.0.0.1:1\"] }, budget: { rate: 1/s } }]\nstreams:\n")
	for _, s := range streams {
		fmt.Fprintf(&b, "  - name: %s\n", s)
	}
	b.WriteString("drains:\n")
	for _, s := range streams {
		fmt.Fprintf(&b, "  - { name: d-%s, stream: %s, sink: k, schedule: { base: 1/s } }\n", s, s)
	}
	b.WriteString("routes:\n")
	for _, s := range streams {
		fmt.Fprintf(&b, "  - { name: r-%s, match: { methods: [POST], path: /%s }, mode: buffer, stream: %s }\n", s, s, s)
	}
	return b.String()
}

// reloading is a reloader on one file, with the order of what it did.
type reloading struct {
	*reloader
	engine   *fakeEngine
	path     string
	applyErr error
	applied  []string // hashes
	events   []string
}

func newReloading(t *testing.T, policy string) *reloading {
	t.Helper()
	r := &reloading{engine: &fakeEngine{}, path: filepath.Join(t.TempDir(), "p.yaml")}
	r.write(t, policy)
	r.reloader = &reloader{
		paths: []string{r.path}, engine: r.engine, log: slog.New(slog.DiscardHandler), metrics: newPolicyMetrics(prometheus.NewRegistry()),
		apply: func(s *policies.Set) error {
			if r.applyErr == nil {
				r.applied = append(r.applied, s.Hash)
			}
			return r.applyErr
		},
		follow: func(*policies.Set) {},
		events: func(_ time.Time, e admin.Event) { r.events = append(r.events, e.Kind+" by "+e.Actor) },
	}
	set, err := policies.Load(r.paths)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.start(set); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *reloading) write(t *testing.T, policy string) {
	t.Helper()
	if err := os.WriteFile(r.path, []byte(policy), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestReload(t *testing.T) {
	r := newReloading(t, simplePolicy("a", "b"))
	before := r.policy()
	r.write(t, simplePolicy("b", "c"))
	hash, err := r.reload("test")
	if err != nil {
		t.Fatal(err)
	}
	if hash == before.Hash || r.policy().Hash != hash || !slices.Equal(r.applied, []string{before.Hash, hash}) {
		t.Errorf("after a reload: hash %s, policy %s, applied %v", hash, r.policy().Hash, r.applied)
	}
	// What goes stays known until nothing uses it; what comes is known before.
	want := []string{"a[d-a] b[d-b]", "a[d-a] b[d-b] c[d-c]", "b[d-b] c[d-c]"}
	if diff := cmp.Diff(want, r.engine.calls); diff != "" {
		t.Errorf("Configure (-want +got):\n%s", diff)
	}
	if got := testutil.ToFloat64(r.metrics.successful); got != 1 {
		t.Errorf("last_reload_successful = %v, want 1", got)
	}
}

func TestReloadRefused(t *testing.T) {
	tests := []struct {
		name     string
		policy   string
		stats    buffer.Stats
		applyErr error
		want     []string // messages, in part
		calls    []string // of Configure, after the first
	}{
		{name: "mistakes, all of them", policy: "version: 1\nstreems: []\nsinkz: []\n", want: []string{"streems", "sinkz"}},
		{
			name: "a stream that holds messages", policy: simplePolicy("b"),
			stats: buffer.Stats{
				Streams: []buffer.StreamStats{{Stream: "a", Messages: 1}, {Stream: "b", Messages: 5}},
				Drains:  []buffer.DrainStats{{Drain: "d-a", Stream: "a", InFlight: 1}, {Drain: "d-b", Stream: "b", Pending: 5}},
			},
			want: []string{"stream a is left out with 1 message", "drain d-a of stream a is left out with 1 message"},
		},
		{
			name: "a drain that holds messages", policy: strings.ReplaceAll(simplePolicy("a", "b"), "d-a", "other"),
			stats: buffer.Stats{
				Streams: []buffer.StreamStats{{Stream: "a", Messages: 3}},
				Drains:  []buffer.DrainStats{{Drain: "d-a", Stream: "a", Scheduled: 3}},
			},
			want: []string{"drain d-a of stream a is left out with 3 messages"},
		},
		{
			name:   "another ordering key while messages wait",
			policy: strings.Replace(simplePolicy("a", "b"), "  - name: a\n", "  - name: a\n    ordering_key: [\"json:/customer\"]\n", 1),
			stats:  buffer.Stats{Streams: []buffer.StreamStats{{Stream: "a", Messages: 2}, {Stream: "b", Messages: 1}}},
			want:   []string{"stream a has another ordering_key with 2 messages in it"},
		},
		{
			name: "a sink that cannot be built", policy: simplePolicy("c"), applyErr: errors.New("no such sink"),
			want: []string{"no such sink"}, calls: []string{"a[d-a] b[d-b] c[d-c]", "a[d-a] b[d-b]"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newReloading(t, simplePolicy("a", "b"))
			before, started := r.policy(), len(r.engine.calls)
			r.engine.stats, r.applyErr = tt.stats, tt.applyErr
			r.write(t, tt.policy)
			_, err := r.reload("test")
			var refused admin.Refused
			if !errors.As(err, &refused) {
				t.Fatalf("reload = %v, want Refused", err)
			}
			if len(refused) != len(tt.want) {
				t.Fatalf("refused = %v, want %d reasons", refused, len(tt.want))
			}
			for i, want := range tt.want {
				if !strings.Contains(refused[i].Message, want) {
					t.Errorf("reason %d = %q, want %q in it", i, refused[i].Message, want)
				}
			}
			if r.policy() != before || len(r.applied) != 1 {
				t.Errorf("a refused policy took hold: %+v", r.policy())
			}
			if diff := cmp.Diff(tt.calls, r.engine.calls[started:], cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("Configure (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff([]string{"reload-refused by test"}, r.events); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
			if got := testutil.ToFloat64(r.metrics.successful); got != 0 {
				t.Errorf("last_reload_successful = %v, want 0", got)
			}
		})
	}
}

func TestReloadEmptyAndOrphaned(t *testing.T) {
	r := newReloading(t, simplePolicy("a", "b"))
	r.engine.stats = buffer.Stats{
		Streams: []buffer.StreamStats{{Stream: "a"}, {Stream: "old", Orphaned: true, Messages: 9}},
		Drains:  []buffer.DrainStats{{Drain: "d-a", Stream: "a"}, {Drain: "d-old", Stream: "old", Orphaned: true, Pending: 9}},
	}
	// An ordering key may change where nothing waits.
	r.write(t, strings.Replace(simplePolicy("b"), "  - name: b\n", "  - name: b\n    ordering_key: [\"header:X-Customer\"]\n", 1))
	if _, err := r.reload("test"); err != nil {
		t.Errorf("reload without an empty stream = %v, want nil", err)
	}
}

func TestReloadChanged(t *testing.T) {
	r := newReloading(t, simplePolicy("a"))
	r.reloadChanged()
	if len(r.applied) != 1 {
		t.Errorf("the same file was loaded again")
	}
	r.write(t, "version: 1\nnonsense: 1\n")
	r.reloadChanged()
	r.reloadChanged()
	if got := testutil.ToFloat64(r.metrics.reloads.WithLabelValues("failure")); got != 1 {
		t.Errorf("a bad file was tried %v times, want once", got)
	}
	r.write(t, simplePolicy("a", "b"))
	r.reloadChanged()
	if len(r.applied) != 2 {
		t.Errorf("a mended file was not loaded: %v", r.applied)
	}
}

// TestReloadTriggers has a whole App follow its file, by itself and when asked.
func TestReloadTriggers(t *testing.T) {
	s := newShop(t)
	r := start(t, policyText(s.url, "1/s"))
	hash := func() string {
		var p admin.Policy
		r.get(t, "/api/v1/policy", &p)
		return p.Hash
	}
	first := hash()
	if err := os.WriteFile(r.policy, []byte(policyText(s.url, "2/s")), 0o600); err != nil {
		t.Fatal(err)
	}
	until(t, "the changed file is loaded", func() bool { return hash() != first })

	second := hash()
	if err := os.WriteFile(r.policy+".new", []byte("version: 1\nnonsense: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(r.policy+".new", r.policy); err != nil {
		t.Fatal(err)
	}
	resp, err := http.Post("http://"+r.Admin()+"/api/v1/reload", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close() // its status is all that counts
	if resp.StatusCode != http.StatusUnprocessableEntity || hash() != second {
		t.Errorf("POST /reload of a bad file = %d, hash %s, want 422 and %s", resp.StatusCode, hash(), second)
	}
	if !strings.Contains(r.log.String(), "line=2") {
		t.Errorf("the log does not say where the mistake is:\n%s", r.log)
	}
}

// TestWatchLinks replaces files the way config maps are: a link to a folder is
// swapped, and the files themselves never change.
func TestWatchLinks(t *testing.T) {
	dir := t.TempDir()
	version := func(name, text string) {
		t.Helper()
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name, "p.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	link := func(to, name string) {
		t.Helper()
		tmp := filepath.Join(dir, "..tmp")
		if err := os.Symlink(to, tmp); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(tmp, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	version("..1", "one")
	link("..1", "..data")
	link("..data/p.yaml", "p.yaml")

	paths := []string{filepath.Join(dir, "*.yaml")}
	changed, done := make(chan struct{}, 8), make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { done <- watch(ctx, paths, slog.New(slog.DiscardHandler), func() { changed <- struct{}{} }) }()
	<-changed // it is watching
	before := fingerprint(paths)
	version("..2", "two")
	link("..2", "..data")
	<-changed
	if fingerprint(paths) == before {
		t.Errorf("the fingerprint is the same after the link was swapped")
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("watch = %v, want nil", err)
	}
}

// TestWatchLoop looks at when changes are told, on a clock of its own.
func TestWatchLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var told []time.Duration
		events := make(chan fsnotify.Event)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- watchLoop(ctx, events, nil, func() { told = append(told, time.Since(began)) }, slog.New(slog.DiscardHandler))
		}()
		for range 5 { // a file that is written in pieces
			<-time.After(100 * time.Millisecond)
			events <- fsnotify.Event{}
		}
		<-time.After(35 * time.Second)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("watchLoop = %v, want nil", err)
		}
		want := []time.Duration{0, 750 * time.Millisecond, 30 * time.Second}
		if diff := cmp.Diff(want, told); diff != "" {
			t.Errorf("told after (-want +got):\n%s", diff)
		}
	})
}

// TestStreamsOfPolicy looks at what the buffer is told of a policy.
func TestStreamsOfPolicy(t *testing.T) {
	set := &policies.Set{
		Streams: []policies.Stream{{Name: "s", MaxBytes: 1, MaxMessageBytes: 2, KeepDelivered: 3, DeadKeep: 4, DeadMaxBytes: 5, KeepResultsBytes: 6}},
		Drains:  []policies.Drain{{Name: "a", Stream: "s"}, {Name: "b", Stream: "s", FromOldest: true}},
	}
	want := []buffer.Stream{{
		Name: "s", MaxBytes: 1, MaxMessageBytes: 2, KeepDelivered: 3, DeadKeep: 4, DeadMaxBytes: 5, KeepResultsBytes: 6,
		Drains: []string{"a", "b"}, FromOldest: []string{"b"},
	}}
	if diff := cmp.Diff(want, bufferStreams(set)); diff != "" {
		t.Errorf("bufferStreams (-want +got):\n%s", diff)
	}
}
