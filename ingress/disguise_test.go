package ingress

import (
	"bufio"
	"io"
	"net/http"
	"net/url"
	"path"
	"strings"
	"testing"

	"forebay/policies"
)

// guardedPolicy has an open route for everything, and /admin for callers with a key.
func guardedPolicy(t testing.TB) *policies.Set {
	return keyedPolicy(t, `  - { name: open, match: {}, mode: buffer, stream: orders }
  - { name: admin, match: { path_prefix: /admin }, mode: buffer, stream: orders, auth: [shop] }
`)
}

// readings are how sinks read a path, each in its way.
var readings = map[string]func(string) string{
	"decodes":               decodedPath,
	"decodes twice":         func(p string) string { return decodedPath(decodedPath(p)) },
	"cuts parameters":       func(p string) string { return policies.WithoutParameters(decodedPath(p)) },
	"cuts before it cleans": func(p string) string { return path.Clean(policies.WithoutParameters(p)) },
	"cleans":                func(p string) string { return path.Clean(decodedPath(p)) },
	"takes backslashes":     func(p string) string { return path.Clean(strings.ReplaceAll(decodedPath(p), `\`, "/")) },
	"ends at NUL":           func(p string) string { p, _, _ = strings.Cut(decodedPath(p), "\x00"); return p },
	"lenient about UTF-8": func(p string) string {
		return path.Clean(strings.NewReplacer("\xc0\xaf", "/", "\xc0\xae", ".", "\xe0\x80\xaf", "/", "\xc1\xa1", "a").Replace(decodedPath(p)))
	},
	"all of it": func(p string) string {
		p = strings.ReplaceAll(decodedPath(decodedPath(p)), `\`, "/")
		return path.Clean(policies.WithoutParameters(p))
	},
}

func decodedPath(p string) string {
	if decoded, err := url.PathUnescape(p); err == nil {
		return decoded
	}
	return p
}

// guarded reports whether some sink could take a target for one below /admin, in
// whatever letters.
func guarded(target string) (by string, is bool) {
	target, _, _ = strings.Cut(target, "?")
	for name, read := range readings {
		if p := strings.ToLower(read(target)); p == "/admin" || strings.HasPrefix(p, "/admin/") {
			return name, true
		}
	}
	return "", false
}

// spellings are ways to write /admin/users that get past guards.
var spellings = []string{
	"/admin/users", "/admin", "/admin/", "/admin?x", "/ADMIN/users", "/aDmin", "/%61dmin/users", "/%41dmin/users", "/adm%69n",
	"//admin/users", "/.//admin/users", "/x//admin", "///admin", "/x/../admin/users", "/./admin/users", "/x/..//admin", "/../admin",
	"/%2e/admin/users", "/%2e%2e/admin", "/x/%2e%2e/admin", "/x/.%2e/admin", "/x/%2E./admin", "/x%2f..%2fadmin", "/x/..%2fadmin", "/%2fadmin/users",
	"/admin%2fusers", "/admin%2Fusers", "/x/..%5cadmin", `/x/..\admin`, `/\admin`, `/admin\users`, "/admin%5cusers", "/%5cadmin",
	"/admin;/users", "/admin;x=1/users", "/admin;x", ";/admin", "/;/admin/users", "/x;/../admin", "/x/..;/admin/users", "/x/..;a=b/admin", "/.;/admin", "/;x/admin",
	"/admin%3b/users", "/admin%3Bx=1", "/%3b/admin", "/x/..%3b/admin", "/x/.%2e;/admin", "/x/%2e%2e%3b/admin", "/Admin%3Bx/users",
	"/admin%00/users", "/admin%00", "/x%00/../admin", "/admin\x00/users", "/%00/admin", "/admin%0a", "/admin%0d%0a/users", "/admin%09/users", "/admin\t/users", "/admin%7f",
	"/%252e%252e/admin", "/x/%252e%252e/admin", "/x%252f..%252fadmin", "/%2561dmin/users", "/admin%252fusers", "/admin%253b/users", "/%25%36%31dmin",
	"/x/%c0%ae%c0%ae/admin", "/x/..%c0%afadmin", "/%c0%afadmin/users", "/admin%c0%afusers", "/admin%e0%80%afusers", "/%c1%a1dmin", "/x/..\xc0\xafadmin", "/\xc1\xa1dmin",
	"/admin#/users", "/x#/../admin", "/admin%23", "/admin%3fx", "/admin%3Fx/users", "/admin?/../x",
	"http://h/admin/users", "http://other/admin", "HTTP://h//admin", "http://h/x/../admin", "http://h/%2e%2e/admin", "h/admin", "admin/users", "*", "http://h",
}

// TestGuardedPrefix: by whatever spelling, nobody without a key gets anything stored that
// a sink could take for what is below /admin. HTTP/1.0 is served by net/http.
func TestGuardedPrefix(t *testing.T) {
	for _, proto := range []string{"HTTP/1.1", "HTTP/1.0"} {
		for _, target := range spellings {
			set := guardedPolicy(t)
			f := newFixture(t, func(c *Config) { c.Policy = func() *policies.Set { return set } })
			c := serve(t, f)
			if _, err := io.WriteString(c, "POST "+target+" "+proto+"\r\nHost: h\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatalf("%s %q: %v", proto, target, err)
			}
			resp.Body.Close()
			if resp.StatusCode != 400 && resp.StatusCode != 401 && resp.StatusCode != 202 {
				t.Errorf("%s %q: status %d, want 400 or 401, or 202 where it is harmless", proto, target, resp.StatusCode)
			}
			for _, m := range f.buf.messages {
				if by, is := guarded(m.Target); is {
					t.Errorf("%s %q is stored as %q, which a sink that %s takes for /admin", proto, target, m.Target, by)
				}
			}
			if stored := len(f.buf.messages) > 0; stored != (resp.StatusCode == 202) {
				t.Errorf("%s %q: status %d, stored %t", proto, target, resp.StatusCode, stored)
			}
		}
	}
}

// With a key the plain spellings are taken, so that the test above shows something.
func TestGuardedPrefixWithAKey(t *testing.T) {
	set := guardedPolicy(t)
	f := newFixture(t, func(c *Config) { c.Policy = func() *policies.Set { return set } })
	for target, want := range map[string]int{"/admin/users": 202, "/admin": 202, "/%61dmin/users": 202, "/admin;x/users": 400, "/admin/users;x": 202, "/Admin": 400, "/other;x=1/y": 202, "/administrators": 202} {
		if resp := f.do("POST", target, "", "X-Shop-Key: web"); resp.StatusCode != want {
			t.Errorf("%s: status %d, want %d", target, resp.StatusCode, want)
		}
	}
}

// FuzzGuardedPrefix looks for spellings that nobody thought of.
func FuzzGuardedPrefix(f *testing.F) {
	for _, s := range spellings {
		f.Add(s)
	}
	set := guardedPolicy(f)
	f.Fuzz(func(t *testing.T, target string) {
		if !strings.HasPrefix(target, "/") || targetFault(target) != "" {
			return
		}
		u, err := url.ParseRequestURI(target)
		if err != nil {
			return
		}
		route, _ := set.Match("h", "POST", u.Path)
		if route == nil || len(route.Auth) > 0 || set.Disguised(route, "h", "POST", u.Path) {
			return
		}
		if by, is := guarded(target); is {
			t.Errorf("%q is open to anybody; a sink that %s takes it for /admin", target, by)
		}
	})
}
