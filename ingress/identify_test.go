package ingress

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"forebay/buffer"
	"forebay/policies"
)

// keyed is a fixture with routes for some callers: orders for web and app, each in a
// field of their own, registrations for partner, who sends a bearer token, and for
// app; and /open for anybody. A name is its own key.
func keyed(t *testing.T) *fixture {
	t.Helper()
	set := keyedPolicy(t, `  - { name: open, match: { path: /open }, mode: buffer, stream: orders }
  - { name: lines, match: { path: /lines }, mode: buffer, stream: orders, split: lines, auth: [shop, app] }
`)
	return newFixture(t, func(c *Config) { c.Policy = func() *policies.Set { return set } })
}

// keyedPolicy is the policy of keyed with other routes in the place of its last two.
func keyedPolicy(t testing.TB, routes string) *policies.Set {
	t.Helper()
	dir := t.TempDir()
	for file, names := range map[string][]string{"shop": {"web", "old-web:web"}, "app": {"app"}, "partners": {"partner", "web-again:web"}} {
		var text string
		for _, name := range names {
			key, principal, ok := strings.Cut(name, ":")
			if !ok {
				principal = key
			}
			line, err := policies.KeyLine(principal, key)
			if err != nil {
				t.Fatal(err)
			}
			text += line + "\n"
		}
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text := strings.Replace(testPolicy, "streams:", `auth:
  - { name: shop, api_key: { header: X-Shop-Key, keys_file: "`+dir+`/shop" } }
  - { name: app, api_key: { keys_file: "`+dir+`/app" } }
  - { name: partners, api_key: { header: authorization, keys_file: "`+dir+`/partners" } }
streams:`, 1)
	text = strings.Replace(text, "stream: orders, max_body", "stream: orders, auth: [shop, app], max_body", 1)
	text = strings.Replace(text, "stream: registrations, max_body", "stream: registrations, auth: [partners, app], max_body", 1)
	return parsePolicy(t, text+routes)
}

func TestIdentify(t *testing.T) {
	const register, orders = "/v1/registrations", "/v1/orders"
	shopOrApp := `ApiKey realm="forebay", header="X-Shop-Key", ApiKey realm="forebay", header="X-Api-Key"`
	for name, tt := range map[string]struct {
		target, field string
		status        int
		challenge     string
	}{
		"known":               {orders, "X-Shop-Key: web", 202, ""},
		"the other key":       {orders, "X-Shop-Key: old-web", 202, ""},
		"the other entry":     {orders, "X-Api-Key: app", 202, ""},
		"bearer":              {register, "Authorization: Bearer partner", 202, ""},
		"bearer in small":     {register, "Authorization: bearer  partner", 202, ""},
		"nothing":             {orders, "X-Other: web", 401, shopOrApp},
		"unknown":             {orders, "X-Shop-Key: wrong", 401, shopOrApp},
		"empty":               {orders, "X-Shop-Key: ", 401, shopOrApp},
		"another field":       {orders, "X-Api-Key: web", 401, shopOrApp},
		"underscores":         {orders, "X_Shop_Key: web", 401, shopOrApp},
		"no scheme":           {register, "Authorization: partner", 401, `Bearer realm="forebay", ApiKey realm="forebay", header="X-Api-Key"`},
		"another scheme":      {register, "Authorization: Basic partner", 401, `Bearer realm="forebay", ApiKey realm="forebay", header="X-Api-Key"`},
		"not for this route":  {orders, "Authorization: Bearer partner", 403, ""},
		"nor for this":        {register, "X-Shop-Key: web", 403, ""},
		"open":                {"/open", "X-Other: x", 202, ""},
		"open, with a key":    {"/open", "X-Shop-Key: web", 202, ""},
		"open, with a wrong":  {"/open", "X-Shop-Key: wrong", 202, ""},
		"a batch":             {"/lines", "X-Shop-Key: web", 202, ""},
		"a batch without key": {"/lines", "X-Other: x", 401, shopOrApp},
	} {
		t.Run(name, func(t *testing.T) {
			f := keyed(t)
			resp := f.do("POST", tt.target, "{}", tt.field)
			if resp.StatusCode != tt.status || resp.Header.Get("Www-Authenticate") != tt.challenge {
				t.Fatalf("status %d, WWW-Authenticate %q; want %d, %q", resp.StatusCode, resp.Header.Get("Www-Authenticate"), tt.status, tt.challenge)
			}
			if tt.status == http.StatusAccepted {
				return
			}
			kind := map[int]string{401: "unauthenticated", 403: "forbidden"}[tt.status]
			p := decode[problemDocument](t, resp)
			if p.Type != problemPrefix+kind || len(f.buf.messages) > 0 {
				t.Errorf("answered %+v, and %d messages are stored", p, len(f.buf.messages))
			}
			_, key, _ := strings.Cut(tt.field, ": ")
			if key = strings.TrimSpace(key); len(key) > 1 && strings.Contains(p.Detail, key) {
				t.Errorf("the key is told: %s", p.Detail)
			}
			route := map[string]string{orders: "create-order", register: "register", "/lines": "lines"}[tt.target]
			wantCount(t, f, route, "denied", map[int]string{401: "401", 403: "403"}[tt.status], 1)
		})
	}
}

// Two keys at once are none: a proxy on the way may have looked at the other.
func TestTwoKeys(t *testing.T) {
	if resp := keyed(t).do("POST", "/v1/orders", "{}", "X-Shop-Key: wrong", "X-Shop-Key: web"); resp.StatusCode != 401 {
		t.Errorf("status %d, want 401", resp.StatusCode)
	}
}

// A refused caller's body is not read: who has no key costs no memory.
func TestRefusedBeforeTheBody(t *testing.T) {
	f := keyed(t)
	r := request(t.Context(), "POST", "/v1/orders", "")
	r.Body, r.ContentLength = readFails{t}, -1
	if resp := f.send(r); resp.StatusCode != 401 {
		t.Errorf("status %d, want 401", resp.StatusCode)
	}
}

type readFails struct{ t *testing.T }

func (r readFails) Read([]byte) (int, error) {
	r.t.Error("the body was read")
	return 0, http.ErrBodyReadAfterClose
}
func (readFails) Close() error { return nil }

// No key is stored, in whatever field it is sent and on whatever route.
func TestKeysAreNotStored(t *testing.T) {
	for _, target := range []string{"/v1/orders", "/open", "/lines"} {
		f := keyed(t)
		resp := f.do("POST", target, "{}", "X-Shop-Key: web", "X_shop_key: web", "X-Api-Key: app", "Authorization: Bearer partner", "X-Kept: yes")
		if resp.StatusCode != http.StatusAccepted || len(f.buf.messages) != 1 {
			t.Fatalf("%s: status %d, %d messages", target, resp.StatusCode, len(f.buf.messages))
		}
		kept := false
		for _, field := range f.buf.messages[0].Header {
			switch v := field.Value; {
			case field.Name == "X-Kept":
				kept = true
			case strings.Contains(v, "web"), strings.Contains(v, "app"), strings.Contains(v, "partner"):
				t.Errorf("%s: %s: %s is stored", target, field.Name, v)
			}
		}
		if !kept || strings.Contains(f.log.String(), "web") {
			t.Errorf("%s: stored %v, logged %s", target, f.buf.messages[0].Header, f.log)
		}
	}
}

// No key goes to a sink live, and nobody gets there without one.
func TestKeysDoNotGoToSinks(t *testing.T) {
	shop := newSink(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	set := keyedPolicy(t, `  - { name: live, match: { path_prefix: /live }, mode: pass, sink: order-service, auth: [shop, partners] }
  - { name: free, match: { path_prefix: /free }, mode: hold, sink: order-service }
`)
	addr, _, _ := newProxy(t, shop.URL, func(c *Config) { c.Policy = func() *policies.Set { return set } })
	for target, want := range map[string]int{"/live": 204, "/free": 204, "/live/x": 204, "/Live": 404} {
		e := shop.exchange(t, addr, "GET "+target+" HTTP/1.1\r\nHost: h\r\nX-Shop-Key: web\r\nx_shop_key: web\r\nX-Api-Key: app\r\nAuthorization: Bearer partner\r\nCookie: kept\r\nConnection: close\r\n\r\n")
		if e.Status != want || want == 204 && e.SeenHeader.Get("Cookie") != "kept" {
			t.Errorf("%s: status %d, the sink saw %v", target, e.Status, e.SeenHeader)
		}
		for name, values := range e.SeenHeader {
			if v := strings.Join(values, ","); strings.Contains(v, "web") || strings.Contains(v, "app") || strings.Contains(v, "partner") {
				t.Errorf("%s: %s: %s goes to the sink", target, name, v)
			}
		}
	}
	for target, want := range map[string]int{"/live": 401, "/free": 204} {
		e := shop.exchange(t, addr, "GET "+target+" HTTP/1.1\r\nHost: h\r\nX-Shop-Key: wrong\r\nConnection: close\r\n\r\n")
		if e.Status != want || (e.Seen != "") != (want == 204) {
			t.Errorf("%s with a wrong key: status %d, the sink saw %q", target, e.Status, e.Seen)
		}
	}
}

// An idempotency key belongs to its principal, not to one of the principal's keys.
func TestIdempotencyOfPrincipals(t *testing.T) {
	f := keyed(t)
	post := func(body, auth string) *http.Response {
		return f.do("POST", "/v1/orders", body, auth, "Idempotency-Key: 7")
	}
	first, again := post("{}", "X-Shop-Key: web"), post("{}", "X-Shop-Key: old-web")
	if first.StatusCode != 202 || again.Header.Get("Idempotent-Replayed") != "true" || again.Header.Get("Location") != first.Header.Get("Location") {
		t.Errorf("the same principal's second is %d %v, want the first again", again.StatusCode, again.Header)
	}
	if other := post("[]", "X-Api-Key: app"); other.StatusCode != 202 || other.Header.Get("Idempotent-Replayed") != "" {
		t.Errorf("another principal's is %d %v, want a message of its own", other.StatusCode, other.Header)
	}
	route := &f.cfg.Policy().Routes[0]
	keys, err := OnceKeys(route, "7")
	if err != nil || len(keys) != 3 {
		t.Fatalf("OnceKeys = %d, %v; want those of two principals and of nobody", len(keys), err)
	}
	var found []uint64
	for _, key := range keys {
		if a, err := f.buf.Lookup(t.Context(), "orders", key, time.Now()); err == nil {
			found = append(found, a.First)
		}
	}
	if diff := cmp.Diff([]uint64{1, 0}, found); diff != "" {
		t.Errorf("found (-want +got):\n%s", diff)
	}
}

// A receipt is its principal's alone; for others there is none.
func TestReceiptOwners(t *testing.T) {
	f := keyed(t)
	id := func(target, field string) string {
		t.Helper()
		resp := f.do("POST", target, "{}", field)
		if resp.StatusCode != 202 {
			t.Fatalf("POST %s: status %d", target, resp.StatusCode)
		}
		return strings.TrimPrefix(resp.Header.Get("Location"), receiptsPrefix)
	}
	owned, open := id("/v1/orders", "X-Shop-Key: web"), id("/open", "X-Shop-Key: web")
	batch := decode[struct {
		Accepted  int      `json:"accepted"`
		First     string   `json:"first_id"`
		Last      string   `json:"last_id"`
		Duplicate bool     `json:"duplicate"`
		IDs       []string `json:"ids"`
	}](t, f.do("POST", "/lines", "a\nb", "X-Shop-Key: web"))

	for _, id := range []string{owned, batch.First, batch.Last} {
		for _, field := range []string{"X-Other: x", "X-Shop-Key: wrong", "X-Api-Key: app", "Authorization: Bearer partner"} {
			for _, method := range []string{"GET", "HEAD", "DELETE"} {
				resp := f.do(method, receiptsPrefix+id, "", field)
				if resp.StatusCode != 404 {
					t.Errorf("%s with %s: status %d, want 404", method, field, resp.StatusCode)
				}
				if method != "GET" {
					continue
				}
				unknown := f.do(method, receiptsPrefix+strings.Repeat("a", 26), "", field)
				a, b := decode[problemDocument](t, resp), decode[problemDocument](t, unknown)
				b.Instance, b.RequestID = a.Instance, a.RequestID
				if diff := cmp.Diff(a, b); diff != "" {
					t.Errorf("a receipt of somebody else is told from none (-somebody's +none):\n%s", diff)
				}
			}
			if resp := f.do("GET", receiptsPrefix+id, "", field, "Accept: text/event-stream"); resp.StatusCode != 404 {
				t.Errorf("events with %s: status %d, want 404", field, resp.StatusCode)
			}
			if resp := f.do("GET", receiptsPrefix+id, "", field, "Prefer: wait=1"); resp.StatusCode != 404 {
				t.Errorf("a wait with %s: status %d, want 404", field, resp.StatusCode)
			}
		}
		// The same principal by another key, and by another entry.
		for _, field := range []string{"X-Shop-Key: web", "X-Shop-Key: old-web", "Authorization: Bearer web-again"} {
			if resp := f.do("GET", receiptsPrefix+id, "", field); resp.StatusCode != 200 {
				t.Errorf("with %s: status %d, want 200", field, resp.StatusCode)
			}
		}
	}
	if resp := f.do("GET", receiptsPrefix+open, ""); resp.StatusCode != 200 {
		t.Errorf("the receipt of a route without auth: status %d, want 200", resp.StatusCode)
	}
	if resp := f.do("DELETE", receiptsPrefix+owned, "", "X-Shop-Key: web"); resp.StatusCode != 200 {
		t.Errorf("DELETE by its principal: status %d, want 200", resp.StatusCode)
	}
	// Who operates sees all.
	if _, err := f.Receipts().Get(owned, time.Now()); err != nil {
		t.Errorf("the operator's look: %v", err)
	}
}

// Where it is not known whose a message is, nobody is told anything.
func TestOwnerUnreadable(t *testing.T) {
	f := keyed(t)
	resp := f.do("POST", "/v1/orders", "{}", "X-Shop-Key: web")
	f.buf.ownerErr = buffer.ErrBroken
	if got := f.do("GET", resp.Header.Get("Location"), "", "X-Shop-Key: web"); got.StatusCode != 500 {
		t.Errorf("status %d, want 500", got.StatusCode)
	}
}
