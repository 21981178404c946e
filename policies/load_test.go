package policies

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	_ "time/tzdata"

	"github.com/google/go-cmp/cmp"

	"forebay/limiter"
)

var update = flag.Bool("update", false, "rewrite the golden files in testdata")

// now is a Monday; warnings about dates are judged from it.
var now = time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)

func parseFile(t *testing.T, path string) (*Set, Errors) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	set, found, _ := parseWith([]File{{Name: filepath.Base(path), Data: data}}, beside(path))
	if mistakes := found.errors(); len(mistakes) > 0 {
		return nil, mistakes
	}
	return set, nil
}

// beside is a world with the files beside a policy's and two variables.
func beside(path string) *outside {
	return &outside{
		read: func(name string) ([]byte, error) {
			if !filepath.IsAbs(name) {
				name = filepath.Join(filepath.Dir(path), name)
			}
			return readFile(name)
		},
		lookup: func(name string) (string, bool) {
			s := map[string]string{"FOREBAY_TEST_SECRET": "whsec_of_a_test", "FOREBAY_TEST_WHSEC": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}[name]
			return s, s != ""
		},
	}
}

// parse is for policies in the text of a test.
func parse(t *testing.T, policy string) *Set {
	t.Helper()
	set, mistakes := Parse([]File{{Name: "policy.yaml", Data: []byte(policy)}})
	if len(mistakes) > 0 {
		t.Fatalf("Parse found mistakes:\n%v\nin:\n%s", mistakes, policy)
	}
	return set
}

func glob(t *testing.T, pattern string, atLeast int) []string {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) < atLeast {
		t.Fatalf("%s matches %d files (%v), want at least %d", pattern, len(paths), err, atLeast)
	}
	return paths
}

// golden compares got with the file, or writes it with -update.
func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("differs from %s (-want +got):\n%s", path, diff)
	}
}

func TestMistakes(t *testing.T) {
	for _, path := range glob(t, "testdata/bad-*.yaml", 25) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			set, mistakes := parseFile(t, path)
			if set != nil || len(mistakes) == 0 {
				t.Fatalf("Parse returned set %v and %d mistakes, want none and some", set, len(mistakes))
			}
			golden(t, strings.TrimSuffix(path, ".yaml")+".want", mistakes.Error()+"\n")
		})
	}
}

func TestTwentyMistakes(t *testing.T) {
	if _, mistakes := parseFile(t, "testdata/bad-twenty.yaml"); len(mistakes) != 20 {
		t.Errorf("bad-twenty.yaml has %d mistakes, want 20", len(mistakes))
	}
}

func TestGood(t *testing.T) {
	for _, path := range glob(t, "testdata/good-*.yaml", 3) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			if _, mistakes := parseFile(t, path); len(mistakes) > 0 {
				t.Errorf("Parse found mistakes:\n%v", mistakes)
			}
		})
	}
}

func TestWarnings(t *testing.T) {
	for _, path := range glob(t, "testdata/warn-*.yaml", 3) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			set, mistakes := parseFile(t, path)
			if len(mistakes) > 0 {
				t.Fatalf("Parse found mistakes:\n%v", mistakes)
			}
			golden(t, strings.TrimSuffix(path, ".yaml")+".want", Check(set, now).Error()+"\n")
		})
	}
}

// The examples are what people copy: they load, and nothing about them is dubious.
func TestExamples(t *testing.T) {
	for _, path := range glob(t, "examples/*.yaml", 3) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			set, mistakes := parseFile(t, path)
			if len(mistakes) > 0 {
				t.Fatalf("Parse found mistakes:\n%v", mistakes)
			}
			if warnings := Check(set, now); len(warnings) > 0 {
				t.Errorf("Check warns:\n%v", warnings)
			}
		})
	}
}

func TestDefaults(t *testing.T) {
	set, mistakes := parseFile(t, "testdata/good-defaults.yaml")
	if len(mistakes) > 0 {
		t.Fatalf("Parse found mistakes:\n%v", mistakes)
	}
	want := lists{
		Streams: []Stream{{
			Name: "orders", MaxMessageBytes: 1 << 20, KeepDelivered: 24 * time.Hour,
			Retention: 72 * time.Hour, OnRetention: EndDead, DeadKeep: 14 * 24 * time.Hour, DeadMaxBytes: 1 << 30,
			WhenFull: FullReject, KeepResultsBytes: 1 << 30, Priority: Priority{Default: 5},
		}},
		Sinks: []Sink{{
			Name: "order-service",
			HTTP: &HTTPSink{
				URLs:           []*url.URL{{Scheme: "https", Host: "orders.internal"}},
				ConnectTimeout: 2 * time.Second,
				Timeout:        30 * time.Second,
				Permanent:      []int{400, 401, 403, 404, 405, 409, 410, 413, 415, 422},
			},
			Budget: Budget{
				Limit: limiter.Limit{Rate: limiter.Unlimited, Burst: 1}, Concurrency: 64, Mode: ConcurrencyFixed,
				Scope: ScopeLocal, OnStoreError: StoreLocal,
			},
			Breaker:   Breaker{FailureRatio: 0.5, MinRequests: 50, Window: 30 * time.Second, OpenFor: 15 * time.Second},
			SlowStart: 10 * time.Second,
		}},
		Drains: []Drain{{
			Name: "orders-to-service", Stream: "orders", Sink: "order-service",
			Schedule: Schedule{Base: limiter.Unlimited},
			Retry: Retry{
				MaxAttempts: 15, MaxAge: 24 * time.Hour, Initial: time.Second, Max: 10 * time.Minute,
				HonourRetryAfter: time.Hour, Budget: 0.2,
			},
			Weight: 1, Priority: 5,
		}},
		Routes: []Route{{
			Name: "create-order", PathPrefix: "/", Mode: ModeBuffer, Stream: "orders",
			MaxBody: 1 << 20, WaitMax: 30 * time.Second, MaxInflated: 32 << 20,
			Idempotency: Idempotency{Header: "Idempotency-Key", TTL: 24 * time.Hour},
			HoldUpTo:    time.Second, MaxWaiting: 1000,
		}},
	}
	if diff := cmp.Diff(want, exported(set)); diff != "" {
		t.Errorf("defaults differ (-want +got):\n%s", diff)
	}
}

// lists are what a Set holds for its users.
type lists struct {
	Streams []Stream
	Sinks   []Sink
	Drains  []Drain
	Routes  []Route
}

func exported(s *Set) lists {
	return lists{Streams: s.Streams, Sinks: s.Sinks, Drains: s.Drains, Routes: s.Routes}
}

func TestEveryField(t *testing.T) {
	set, mistakes := parseFile(t, "testdata/good-every-field.yaml")
	if len(mistakes) > 0 {
		t.Fatalf("Parse found mistakes:\n%v", mistakes)
	}
	night := set.Interval("night")
	want := lists{
		Streams: []Stream{{
			Name: "orders", MaxBytes: 20 << 30, MaxMessageBytes: 256 << 10, KeepDelivered: 48 * time.Hour,
			Retention: 72 * time.Hour, OnRetention: EndExpire, DeadKeep: 7 * 24 * time.Hour, DeadMaxBytes: 512 << 20,
			OrderingKey: Key{[]keyPart{{header: "X-Shop"}, {pointer: pointer{"customer", "id"}}}},
			CancelKey:   CancelKeys{[]keyPart{{pointer: pointer{"items", "*", "sku"}}}},
			WhenFull:    FullReject, KeepResultsBytes: 3 << 30, Priority: Priority{Default: 5},
		}},
		Sinks: []Sink{{
			Name: "order-service",
			HTTP: &HTTPSink{
				URLs: []*url.URL{
					{Scheme: "https", Host: "orders-a.internal:8443", Path: "/in"},
					{Scheme: "http", Host: "169.254.10.1"},
				},
				AllowAddresses: []netip.Prefix{netip.MustParsePrefix("169.254.10.0/24"), netip.MustParsePrefix("fe80::1/128")},
				ConnectTimeout: 500 * time.Millisecond,
				Timeout:        10 * time.Second,
				Permanent:      []int{400, 422},
				OAuth2:         &OAuth2{&url.URL{Scheme: "https", Host: "id.internal", Path: "/token"}, "forebay", Secret{"whsec_of_a_test"}},
				SignSecrets:    []Secret{{"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}},
			},
			Budget: Budget{
				Limit: limiter.Limit{Rate: 50, Burst: 200}, Concurrency: 32, Mode: ConcurrencyFixed,
				Scope: ScopeLocal, OnStoreError: StoreLocal,
			},
			Breaker:   Breaker{FailureRatio: 1, MinRequests: 20, Window: 10 * time.Second, OpenFor: 5 * time.Second},
			MayCancel: true,
		}},
		Drains: []Drain{{
			Name: "orders-to-service", Stream: "orders", Sink: "order-service",
			Schedule: Schedule{Base: 0.5, Entries: []Entry{
				{Name: "freeze now", During: []*Interval{set.Interval("maintenance")}, Rate: 0},
				{Name: "night", During: []*Interval{night}, Except: []*Interval{set.Interval("maintenance")}, Rate: limiter.Unlimited},
			}},
			Retry: Retry{
				MaxAttempts: 3, MaxAge: 36 * time.Hour, Initial: 2 * time.Second, Max: time.Minute,
				HonourRetryAfter: 10 * time.Minute, Budget: 0.125,
			},
			Deadline:   Deadline{MaxDelay: 8 * time.Hour, OnExpire: EndDeliver},
			FromOldest: true, Weight: 1, Priority: 5,
		}},
		Routes: []Route{{
			Name: "create-order", Hosts: []string{"shop.example.com", "::1"}, Methods: []string{"POST", "PUT"},
			PathPrefix: "/v1/orders/", Mode: ModeBuffer, Stream: "orders", MaxBody: 64 << 10, WaitMax: 0,
			WaitFor: "orders-to-service", Split: SplitJSONArray, MaxInflated: 8 << 20,
			Idempotency: Idempotency{Header: "X-Order-Id", Required: true, TTL: 12 * time.Hour},
			StoreResult: 64 << 10, HoldUpTo: time.Second, MaxWaiting: 1000,
		}},
	}
	sameInterval := cmp.Comparer(func(a, b *Interval) bool { return a == b })
	prefix := cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })
	if diff := cmp.Diff(want, exported(set), sameInterval, prefix, cmp.AllowUnexported(Secret{})); diff != "" {
		t.Errorf("policy differs (-want +got):\n%s", diff)
	}
}

func TestDefaultBurst(t *testing.T) {
	for rate, want := range map[limiter.Rate]int{0: 1, 0.1: 1, 99: 1, 150: 1, 800: 8, 2900: 29, 20000: 200, limiter.Unlimited: 1} {
		if got := defaultBurst(rate); got != want {
			t.Errorf("defaultBurst(%v) = %d, want %d", rate, got, want)
		}
	}
}

func TestFilesAreOneUnit(t *testing.T) {
	dir := t.TempDir()
	smallest, err := os.ReadFile("examples/smallest.yaml")
	if err != nil {
		t.Fatal(err)
	}
	// What one file names, another defines.
	streams, rest, _ := strings.Cut(string(smallest), "sinks:")
	write(t, dir, "a.yaml", "version: 1\nsinks:"+rest)
	write(t, dir, "b.yaml", streams)
	both := filepath.Join(dir, "*.yaml")
	set, err := Load([]string{both, filepath.Join(dir, "b.yaml")})
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(len(set.Streams), len(set.Sinks), len(set.Drains), len(set.Routes)); got != "1 1 1 1" {
		t.Errorf("streams, sinks, drains, routes = %s, want 1 of each", got)
	}
	first := set.Hash
	if len(first) != 12 {
		t.Errorf("Hash = %q, want 12 digits", first)
	}
	write(t, dir, "b.yaml", streams+"# more\n")
	if set, err = Load([]string{both}); err != nil || set.Hash == first {
		t.Errorf("after a change Load returned error %v and hash %s, the same as before", err, first)
	}
	write(t, dir, "c.yaml", streams)
	_, err = Load([]string{both})
	want := fmt.Sprintf("%[1]s/c.yaml:3:11: error: two streams are named orders\n  - name: orders\n          ^\nhint: the first is at %[1]s/b.yaml:3", dir)
	var mistakes Errors
	if !errors.As(err, &mistakes) || mistakes.Error() != want {
		t.Errorf("Load error:\n%v\nwant:\n%s", err, want)
	}
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// While one file cannot be read as YAML, what it may define is not called missing.
func TestUnreadableFileHidesNoOther(t *testing.T) {
	_, mistakes := Parse([]File{
		{Name: "a.yaml", Data: []byte("version: 1\nstreams: [")},
		{Name: "b.yaml", Data: []byte("version: 1\nroutes: [{name: r, match: {}, mode: buffer, stream: s, max_body: 1Gib}]")},
	})
	var got []string
	for _, m := range mistakes {
		got = append(got, fmt.Sprint(m.File, " ", m.Hint))
	}
	want := []string{"a.yaml write the value, or close the [ or { that is open here", "b.yaml write 1GiB"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("mistakes (-want +got):\n%s", diff)
	}
}

func TestLoadErrors(t *testing.T) {
	dir := t.TempDir()
	tests := []struct {
		name  string
		paths []string
		is    error
	}{
		{"no paths", nil, nil},
		{"no match", []string{filepath.Join(dir, "*.yaml")}, fs.ErrNotExist},
		{"bad glob", []string{"[" + dir}, filepath.ErrBadPattern},
		{"directory", []string{dir}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			set, err := Load(tt.paths)
			if set != nil || err == nil || (tt.is != nil && !errors.Is(err, tt.is)) {
				t.Errorf("Load(%q) = %v, %v; want an error that is %v", tt.paths, set, err, tt.is)
			}
		})
	}
}

func TestErrorsAsJSON(t *testing.T) {
	_, mistakes := Parse([]File{{Name: "p.yaml", Data: []byte("version: 2\n")}})
	got, err := json.Marshal(mistakes)
	if err != nil {
		t.Fatal(err)
	}
	want := `[{"file":"p.yaml","line":1,"column":10,"message":"version \"2\" is not known","hint":"write version: 1"}]`
	if string(got) != want {
		t.Errorf("JSON = %s\nwant %s", got, want)
	}
}

func TestBounds(t *testing.T) {
	many := func(n int) string {
		var b strings.Builder
		b.WriteString("version: 1\nstreams:\n")
		for i := range n {
			fmt.Fprintf(&b, "  - { name: s%d }\n", i)
		}
		return b.String()
	}
	tests := []struct {
		name, policy, want string
	}{
		{"file size", "version: 1\n#" + strings.Repeat("x", maxFileBytes), "the file is over 1 MiB"},
		{"name", "version: 1\nstreams: [{ name: " + strings.Repeat("n", 64) + " }]", `name "` + strings.Repeat("n", 60) + `…" is over 63 bytes`},
		{"not text", "version: 1\n# \xff\n", "the file is not UTF-8 text"},
		{
			"entry", "version: 1\ndrains: [{ schedule: { base: 1, entries: [{ name: " + strings.Repeat("n", 64) + ", during: [i], rate: 1 }] }, name: d, stream: s, sink: k }]",
			`name "` + strings.Repeat("n", 60) + `…" is over 63 bytes`,
		},
		{"pointer", "version: 1\nstreams: [{ name: s, ordering_key: [\"json:/" + strings.Repeat("n", maxPath) + "\"] }]", "a JSON Pointer is too long"},
		{"path", "version: 1\nroutes: [{ name: r, match: { path: /" + strings.Repeat("n", maxPath) + " }, mode: buffer, stream: s }]", `path "/` + strings.Repeat("n", 59) + `…" is too long`},
		{"items", many(2001), "streams has more than 2000 items"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, mistakes := Parse([]File{{Name: "p.yaml", Data: []byte(tt.policy)}})
			if len(mistakes) == 0 || mistakes[0].Message != tt.want {
				t.Errorf("mistakes = %.300v, want the first to be %q", mistakes, tt.want)
			}
		})
	}
	_, mistakes := Parse([]File{{Name: "a", Data: []byte(many(1200))}, {Name: "b", Data: []byte(strings.ReplaceAll(many(1200), " s", " t"))}})
	if want := "routes, streams, drains and sinks are more than 2000 together"; len(mistakes) != 1 || mistakes[0].Message != want {
		t.Errorf("2400 streams: %.300v, want %q", mistakes, want)
	}
	_, mistakes = Parse([]File{{Name: "a", Data: []byte("version: 1\nroutes: [" + strings.Repeat("{ x: 1 }, ", 1500) + "]")}})
	if len(mistakes) != maxFindings+1 || !strings.HasSuffix(mistakes[maxFindings].Message, "more mistakes are not shown") {
		t.Errorf("a file of mistakes has %d, want %d and their number", len(mistakes), maxFindings)
	}
}

// A mistake in a long or hostile line is shown short, and sends nothing to the
// terminal but text.
func TestExcerpt(t *testing.T) {
	tests := []struct {
		name, line  string
		column      int
		text, caret string
	}{
		{"plain", "ab: cd", 5, "ab: cd", "    ^"},
		{"tab", "\ta: b", 2, "\ta: b", "\t^"},
		{"escape", "a: \x1b[31m", 4, "a: \ufffd[31m", "   ^"},
		{"past the end", "ab", 9, "ab", "  ^"},
		{"long", strings.Repeat("x", 500) + "y" + strings.Repeat("z", 500), 501, strings.Repeat("x", 80) + "y" + strings.Repeat("z", 79), strings.Repeat(" ", 80) + "^"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			text, caret := excerpt(tt.line, tt.column)
			if text != tt.text || caret != tt.caret {
				t.Errorf("excerpt(%q, %d) = %q, %q; want %q, %q", tt.line, tt.column, text, caret, tt.text, tt.caret)
			}
		})
	}
}
