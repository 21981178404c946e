package policies

import (
	"io/fs"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// withKeys parses a policy beside a keys file.
func withKeys(t *testing.T, file, more string) (*Set, Errors) {
	t.Helper()
	set, found, _ := parseWith([]File{{Name: "p.yaml", Data: []byte(`version: 1
auth: [{ name: shop, api_key: { header: X-Key, keys_file: keys } }]
streams: [{ name: s }]
sinks: [{ name: k, http: { urls: ["https://k.internal"] } }]
drains: [{ name: d, stream: s, sink: k, schedule: { base: 5/s } }]
routes: [{ name: r, match: {}, mode: buffer, stream: s, auth: [shop] }]
` + more)}}, &outside{
		read: func(string) ([]byte, error) { return []byte(file), nil },
		mode: func(string) fs.FileMode { return 0o640 },
	})
	return set, found.errors()
}

func keyLine(t *testing.T, principal, key string) string {
	t.Helper()
	line, err := KeyLine(principal, key)
	if err != nil {
		t.Fatal(err)
	}
	return line + "\n"
}

func TestKeysFile(t *testing.T) {
	file := "# storefronts\n\n" + keyLine(t, "web", "old") + "  " + strings.ToUpper(keyLine(t, "web", "new")[4:]) +
		keyLine(t, "web", "third") + keyLine(t, "spiffe://shop/app", "other")
	file = strings.Replace(file, "  ", "  web:", 1) + "  # the end"
	set, mistakes := withKeys(t, file, "")
	if len(mistakes) > 0 {
		t.Fatal(mistakes)
	}
	k := set.Auth[0].APIKey
	for key, want := range map[string]string{"old": "web", "new": "web", "third": "web", "other": "spiffe://shop/app", "": "", "web": "", "Old": ""} {
		if got := k.Principal(key); got != want {
			t.Errorf("Principal(%q) = %q, want %q", key, got, want)
		}
	}
	if diff := cmp.Diff([]string{"spiffe://shop/app", "web"}, k.Principals()); diff != "" {
		t.Errorf("Principals (-want +got):\n%s", diff)
	}
	if got := set.Routes[0].Auth; len(got) != 1 || got[0].APIKey != k || !set.HoldsKey("X-Key") || set.HoldsKey("X-Api-Key") {
		t.Errorf("the route's auth is %v; X-Key alone has to hold keys", got)
	}
	if w := Check(set, now); len(w) > 0 {
		t.Errorf("Check warns: %v", w)
	}
}

func TestKeysFileMistakes(t *testing.T) {
	good := keyLine(t, "web", "secret-key")
	digest := strings.TrimSpace(good[4:])
	for name, tt := range map[string]struct{ file, want string }{
		"key itself":   {"\n  web:secret-key\n", "keys:2:3: error: the line is not principal:sha256hex"},
		"no principal": {":" + digest, "keys:1:1: error: the line is not principal:sha256hex"},
		"no digest":    {"web", "keys:1:1: error: the line is not principal:sha256hex"},
		"short digest": {"web:" + digest[1:], "keys:1:1: error: the line is not principal:sha256hex"},
		"no hex":       {"web:z" + digest[1:], "keys:1:1: error: the line is not principal:sha256hex"},
		"space":        {"web shop:" + digest, "keys:1:1: error: the line is not principal:sha256hex"},
		"twice":        {good + good, "keys:2:1: error: the key is that of line 1"},
		"two owners":   {good + "app:" + strings.ToUpper(digest), "keys:2:1: error: the key is that of line 1"},
		"no key":       {"# none yet\n", `p.yaml:2:59: error: keys file "keys" holds no key`},
		"empty":        {"", `p.yaml:2:59: error: keys_file: file "keys": the file is empty`},
		"not UTF-8":    {"\xff", `p.yaml:2:59: error: keys file "keys" is not UTF-8 text`},
		"too long":     {strings.Repeat("#", maxFileBytes+1), `p.yaml:2:59: error: keys file "keys" is over 1 MiB`},
	} {
		t.Run(name, func(t *testing.T) {
			_, mistakes := withKeys(t, tt.file, "")
			if len(mistakes) != 1 || !strings.HasPrefix(mistakes[0].Error(), tt.want) || mistakes[0].Hint == "" {
				t.Fatalf("mistakes = %v, want one: %s", mistakes, tt.want)
			}
			if strings.Contains(mistakes.Error(), "secret-key") || strings.Contains(mistakes.Error(), digest[1:]) {
				t.Errorf("the mistake shows what is in the file:\n%v", mistakes)
			}
		})
	}
}

// What holds a key names no message: it would be stored.
func TestKeysAreNoOtherKeys(t *testing.T) {
	file := keyLine(t, "web", "key")
	for more, want := range map[string]string{
		`streams: [{ name: o, ordering_key: ["header:x-key"] }]`:                                              "stream o would store X-Key, which holds callers' keys",
		`streams: [{ name: o, cancel_key: ["json:/a", "header:X-Key"] }]`:                                     "stream o would store X-Key, which holds callers' keys",
		`routes: [{ name: q, match: { path: /q }, mode: buffer, stream: s, idempotency: { header: X-Key } }]`: "idempotency keys of route q would come in X-Key, which holds callers' keys",
		`auth: [{ name: b, api_key: { header: x-request-id, keys_file: keys } }]`:                             "header field X-Request-Id cannot hold a key",
		`auth: [{ name: b, api_key: { header: Forebay-Key, keys_file: keys } }]`:                              "header field Forebay-Key cannot hold a key",
	} {
		// A file of its own: a section stands once in each.
		set, found, _ := parseWith([]File{
			{Name: "a.yaml", Data: []byte("version: 1\nauth: [{ name: shop, api_key: { header: X-Key, keys_file: keys } }]\nstreams: [{ name: s }]\n")},
			{Name: "b.yaml", Data: []byte("version: 1\n" + more + "\n")},
		}, &outside{read: func(string) ([]byte, error) { return []byte(file), nil }})
		mistakes := found.errors()
		if len(mistakes) != 1 || mistakes[0].Message != want {
			t.Errorf("%s: mistakes = %v, want %q", more, mistakes, want)
		}
		_ = set
	}
}

func TestOpenKeysFile(t *testing.T) {
	for mode, want := range map[fs.FileMode]int{0o600: 0, 0o640: 0, 0o400: 0, 0o644: 1, 0o660: 1, 0o602: 1, 0: 0} {
		set, found, _ := parseWith([]File{{Name: "p.yaml", Data: []byte("version: 1\nauth: [{ name: a, api_key: { keys_file: keys } }]\n")}}, &outside{
			read: func(string) ([]byte, error) { return []byte(keyLine(t, "web", "key")), nil },
			mode: func(string) fs.FileMode { return mode },
		})
		warnings := 0
		for _, w := range Check(set, now) {
			if strings.HasPrefix(w.Message, "keys file keys can be read by everybody") {
				warnings++
			}
		}
		if found.count() > 0 || warnings != want {
			t.Errorf("mode %o: %v and %d warnings, want %d", mode, found.errors(), warnings, want)
		}
	}
}

func TestKeyLine(t *testing.T) {
	if got := keyLine(t, "web", "abc"); got != "web:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\n" {
		t.Errorf("KeyLine = %q", got)
	}
	for _, principal := range []string{"", "a b", "a#b", `a"b`, "é", strings.Repeat("x", 129), "a\nb"} {
		if line, err := KeyLine(principal, "abc"); err == nil {
			t.Errorf("KeyLine(%q) = %q, want an error", principal, line)
		}
	}
}
