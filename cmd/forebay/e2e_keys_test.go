package main_test

import (
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// madeKey appends a key of principal to a keys file, and returns it.
func madeKey(t *testing.T, file, principal string) string {
	t.Helper()
	stdout, stderr, code := command(t, "keys", "new", principal, "--file", file)
	if code != 0 {
		t.Fatalf("keys new: exit %d: %s", code, stderr)
	}
	return strings.TrimSpace(stdout)
}

// Keys are exchanged while the program runs, a broken file leaves the old ones, and no
// key is kept anywhere. What a principal sent is his, after a crash too.
func TestKeys(t *testing.T) {
	t.Parallel()
	shop := newSink(t, nil)
	site := newSite(t, "version: 1\n")
	if err := os.Mkdir(site.path("secrets"), 0o700); err != nil {
		t.Fatal(err)
	}
	file := site.path("secrets", "api_keys")
	first, partner := madeKey(t, file, "web"), madeKey(t, file, "partner")
	site.setPolicy(strings.Replace(orderPolicy(shop.url, "100/s"), "    stream: orders\n    max_body", "    stream: orders\n    auth: [shops]\n    max_body", 1) +
		"auth: [{ name: shops, api_key: { header: X-Shop-Key, keys_file: ../secrets/api_keys } }]\n")
	srv := site.start()
	c := newCaller(t, 4)
	ask := func(method, path, key string) reply {
		t.Helper()
		r, err := c.send(method, srv.public+path, []byte(`{"order":1}`), map[string]string{"X-Shop-Key": key})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	post := func(key string) int { t.Helper(); return ask(http.MethodPost, "/v1/orders", key).status }

	r := ask(http.MethodPost, "/v1/orders", first)
	if r.status != http.StatusAccepted {
		t.Fatalf("POST with a key = %d %s", r.status, r.body)
	}
	receipt := r.header.Get("Location")
	if r := ask(http.MethodPost, "/v1/orders", "fbk_wrong"); r.status != 401 || r.header.Get("Www-Authenticate") != `ApiKey realm="forebay", header="X-Shop-Key"` || problemType(t, r) != "urn:forebay:problem:unauthenticated" {
		t.Errorf("POST with a wrong key = %d %v", r.status, r.header)
	}

	second := madeKey(t, file, "web")
	until(t, 20*time.Second, "the new key is good, while the old one is", func() bool { return post(second) == 202 && post(first) == 202 })
	lines, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(lines), "\n")
	site.write("secrets/api_keys", rest)
	until(t, 20*time.Second, "the old key is not good any more", func() bool { return post(first) == 401 })

	site.write("secrets/api_keys", rest+"web:"+first+"\n")
	until(t, 20*time.Second, "the broken file is refused", func() bool {
		ok, found := metric(t, srv, "forebay_policy_last_reload_successful")
		return found && ok == 0
	})
	if post(second) != 202 || post(first) != 401 {
		t.Error("a broken keys file changed which keys are good")
	}
	told := refusal(t, reload(t, srv))
	if len(told) != 1 || !strings.HasSuffix(told[0].File, "secrets/api_keys") || told[0].Line != 3 || told[0].Column != 1 || told[0].Hint == "" {
		t.Errorf("the reload tells %+v, want line 3 of the keys file", told)
	}
	site.write("secrets/api_keys", rest)

	settle(t, srv, 20*time.Second)
	srv.kill()
	log := srv.stderr.tail(keptLines)
	srv = site.start()
	for key, want := range map[string]int{second: 200, partner: 404, "": 404} {
		if r := ask(http.MethodGet, receipt, key); r.status != want {
			t.Errorf("GET of the receipt = %d, want %d: %s", r.status, want, r.body)
		}
	}
	if said := cli(t, srv, "receipts get "+receipt[strings.LastIndexByte(receipt, '/')+1:]); !strings.Contains(said, "delivered") {
		t.Errorf("an operator sees %s", said)
	}
	for _, a := range shop.arrivals() {
		if a.Header.Get("X-Shop-Key") != "" {
			t.Errorf("the sink got a key: %v", a.Header)
		}
	}
	for _, key := range []string{first, second, partner} {
		if strings.Contains(log+srv.stderr.tail(keptLines), key) {
			t.Error("a key is in the log")
		}
	}
}
