package main_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// Secrets as operators make them, of 24 and 32 bytes.
const (
	firstSecret  = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	secondSecret = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
	thirdSecret  = "whsec_Hx4dHBsaGRgXFhUUExIREA8ODQwLCgkIBwYFBAMCAQA="
)

// signedWith says which of the secrets a delivery is signed with, as its receiver finds out.
func signedWith(t *testing.T, a arrival, body string, secrets ...string) (found string) {
	t.Helper()
	for i, s := range secrets {
		key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(s, "whsec_"))
		if err != nil {
			t.Fatal(err)
		}
		mac := hmac.New(sha256.New, key)
		fmt.Fprintf(mac, "%s.%s.%s", a.Header.Get("webhook-id"), a.Header.Get("webhook-timestamp"), body)
		for one := range strings.FieldsSeq(a.Header.Get("webhook-signature")) {
			if one == "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)) {
				found += fmt.Sprint(i + 1)
			}
		}
	}
	return found
}

// Secrets lie in files, and a file that changes takes hold by itself: a secret is changed
// while the other one is good, and no delivery is without a signature that its receiver
// knows. A file that is no secret changes nothing, and is repeated nowhere.
func TestSecretsRotate(t *testing.T) {
	t.Parallel()
	var allowed atomic.Value // the client's secret
	allowed.Store("hunter2")
	var fetched atomic.Int64
	id := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, secret, _ := r.BasicAuth(); secret != allowed.Load() {
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, `{"error":"invalid_client"}`)
			return
		}
		fmt.Fprintf(w, `{"access_token":"%s-%d","expires_in":3600}`, allowed.Load(), fetched.Add(1))
	}))
	t.Cleanup(id.Close)
	shop := newSink(t, func(_ []arrival, a arrival) answer {
		if !strings.HasPrefix(a.Header.Get("Authorization"), "Bearer "+allowed.Load().(string)+"-") {
			return answer{status: http.StatusUnauthorized}
		}
		return answer{status: http.StatusOK}
	})
	policy := clauses{
		http: fmt.Sprintf(`sign: { standard_webhooks: { secrets: ["${file:../present}", "${file:../next}"] } },
    auth: { oauth2: { token_url: %q, client_id: forebay, client_secret: "${file:../client}" } }`, id.URL),
		drain: "retry: { backoff: { initial: 10ms, max: 100ms } }",
		route: `}` + "\n" + `  - { name: read, match: { path_prefix: /v1/read }, mode: pass, sink: shop`,
	}.policy(shop.url, "unlimited")
	site := newSite(t, orderPolicy(shop.url, "0"))
	site.write("present", firstSecret+"\n")
	site.write("next", secondSecret)
	site.write("client", "hunter2\n")
	site.setPolicy(policy)
	srv := site.start()

	const body = `{"n": 1}`
	deliver := func() arrival {
		t.Helper()
		rec := postAll(t, srv.public, [][]byte{[]byte(body)}, 1)[0]
		settle(t, srv, 30*time.Second)
		log := shop.arrivals()
		last := log[len(log)-1]
		if last.ID != rec.ID || last.Header.Get("webhook-id") != rec.ID {
			t.Errorf("the delivery has id %s and webhook-id %q, want %s", last.ID, last.Header.Get("webhook-id"), rec.ID)
		}
		return last
	}
	if by := signedWith(t, deliver(), body, firstSecret, secondSecret, thirdSecret); by != "12" {
		t.Errorf("signed with secrets %s, want 1 and 2", by)
	}
	site.write("present", "no secret but hunter3")
	until(t, 30*time.Second, "a refused reload", func() bool {
		return strings.Contains(srv.stderr.tail(keptLines), "policy refused")
	})
	if by := signedWith(t, deliver(), body, firstSecret, secondSecret, thirdSecret); by != "12" {
		t.Errorf("after a wrong secret signed with %s, want 1 and 2 still", by)
	}
	site.write("present", thirdSecret+"\n")
	until(t, 30*time.Second, "a delivery with the changed secret", func() bool {
		by := signedWith(t, deliver(), body, firstSecret, secondSecret, thirdSecret)
		if by != "12" && by != "23" {
			t.Errorf("signed with secrets %q, want 1 and 2 or 2 and 3", by)
		}
		return by == "23"
	})

	// The server of tokens takes another secret, and refuses what it gave for the old one.
	allowed.Store("hunter4")
	site.write("client", "hunter4")
	if a := deliver(); !strings.HasPrefix(a.Header.Get("Authorization"), "Bearer hunter4-") || a.Status != http.StatusOK {
		t.Errorf("the delivery had %q, and was answered %d", a.Header.Get("Authorization"), a.Status)
	}
	c := newCaller(t, 1)
	if r, err := c.send(http.MethodGet, srv.public+"/v1/read", nil, map[string]string{"Authorization": "Bearer mine"}); err != nil || r.status != http.StatusOK {
		t.Errorf("a live request = %d %s, %v", r.status, r.body, err)
	}
	allowed.Store("hunter5") // and this time nobody tells
	if r, err := c.do(http.MethodGet, srv.public+"/v1/read", nil); err != nil || r.status != http.StatusUnauthorized {
		t.Errorf("a live request with a token that is refused = %d, %v, want the sink's own answer", r.status, err)
	}
	until(t, 30*time.Second, "a live request without a token", func() bool {
		r, err := c.do(http.MethodGet, srv.public+"/v1/read", nil)
		return err == nil && r.status == http.StatusBadGateway && strings.Contains(string(r.body), "access token")
	})
	postAll(t, srv.public, [][]byte{[]byte(body)}, 1)
	if detail, _ := heldBy(t, srv, "retry-after"); !strings.Contains(detail, "token: status 401, invalid_client") {
		t.Errorf("why says %q, want the reason that there is no token", detail)
	}
	said := srv.stderr.tail(keptLines)
	for _, secret := range []string{firstSecret, secondSecret, thirdSecret, "hunter"} {
		if strings.Contains(said, secret) {
			t.Errorf("the log repeats %q:\n%s", secret, said)
		}
	}
}
