package http_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	nethttp "net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"forebay/drain"
	"forebay/drain/sink/http"
	"forebay/policies"
)

// The secrets of these tests: that of the specification's own tests, and one of 32 bytes.
const (
	oldSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	newSecret = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
)

// secretsOf reads secrets as a policy does.
func secretsOf(t *testing.T, values ...string) []policies.Secret {
	t.Helper()
	var list []string
	for i, v := range values {
		name := fmt.Sprintf("FOREBAY_TEST_%d", i)
		t.Setenv(name, v)
		list = append(list, fmt.Sprintf("%q", "${env:"+name+"}"))
	}
	file := t.TempDir() + "/p.yaml"
	text := "version: 1\nsinks: [{ name: s, http: { urls: [\"http://a\"], sign: { standard_webhooks: { secrets: [" + strings.Join(list, ", ") + "] } } } }]\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	set, err := policies.Load([]string{file})
	if err != nil {
		t.Fatal(err)
	}
	return set.Sinks[0].HTTP.SignSecrets
}

// verified checks a request as its receiver does, and returns how many of the secrets
// signed it. It shares no code with the sink.
func verified(t *testing.T, r seen, secrets ...string) (n int) {
	t.Helper()
	seconds, err := strconv.ParseInt(r.Header.Get("webhook-timestamp"), 10, 64)
	if age := time.Since(time.Unix(seconds, 0)); err != nil || age < -time.Second || age > time.Minute {
		t.Errorf("webhook-timestamp %q (%v) is not that of the attempt", r.Header.Get("webhook-timestamp"), err)
	}
	signed := strings.Split(r.Header.Get("webhook-signature"), " ")
	if len(signed) != len(secrets) {
		t.Errorf("%d signatures, want one for each of %d secrets", len(signed), len(secrets))
	}
	for _, secret := range secrets {
		key, err := base64.StdEncoding.DecodeString(secret[len("whsec_"):])
		if err != nil {
			t.Fatal(err)
		}
		mac := hmac.New(sha256.New, key)
		fmt.Fprintf(mac, "%s.%s.%s", r.Header.Get("webhook-id"), r.Header.Get("webhook-timestamp"), r.Body)
		for _, s := range signed {
			if s == "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)) {
				n++
			}
		}
	}
	return n
}

func TestSignatureVectors(t *testing.T) {
	tests := []struct{ secret, id, at, body, want string }{
		{"MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", `{"test": 2432232314}`, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="},
		{"plJ3nmyCDGBKInavdOK15jsl", "msg_loFOjxBNrRLzqYUf", "1731705121", `{"event_type":"ping","data":{"success":true}}`, "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0="},
	}
	for _, tt := range tests {
		key, err := base64.StdEncoding.DecodeString(tt.secret)
		if err != nil {
			t.Fatal(err)
		}
		if got := http.Signatures([][]byte{key}, tt.id, tt.at, []byte(tt.body)); got != tt.want {
			t.Errorf("signature of %s = %s, want %s", tt.id, got, tt.want)
		}
	}
}

// Every attempt is signed with each secret, over the bytes of its body; what a caller
// says in such fields does not pass.
func TestSigned(t *testing.T) {
	var r recorder
	srv := httptest.NewServer(&r)
	defer srv.Close()
	p := policy(t, srv.URL)
	p.HTTP.SignSecrets = secretsOf(t, oldSecret, newSecret)
	s := newSink(t, p)
	m := order()
	m.Header = fields("Webhook-Id", "forged", "webhook_signature", "v1,forged", "Webhook-Signature", "v1a,forged", "Webhooks", "are none")
	for _, size := range []int{len(m.Body), 0, 80 << 10} { // the last one is left to net/http
		m.Body = bytes.Repeat([]byte("\xffx"), size/2)
		if got := deliver(t, s, m); got.Class != drain.Success {
			t.Fatalf("outcome of %d bytes = %+v", size, got)
		}
		got := r.last(t)
		if n := verified(t, got, oldSecret, newSecret); n != 2 {
			t.Errorf("%d of two signatures hold for %d bytes: %q", n, size, got.Header.Get("Webhook-Signature"))
		}
		if ids := got.Header["Webhook-Id"]; len(ids) != 1 || ids[0] != m.ID {
			t.Errorf("webhook-id = %q, want %q", ids, m.ID)
		}
		if got.Header["Webhook_signature"] != nil || len(got.Header["Webhook-Signature"]) != 1 || got.Header.Get("Webhooks") == "" {
			t.Errorf("fields = %v, want that none of the caller's passes for ours, and others do", got.Header)
		}
	}
	m.Tries.Attempts++
	m.Body = []byte("other")
	deliver(t, s, m)
	if got := r.last(t); got.Header.Get("Webhook-Id") != m.ID || verified(t, got, newSecret, oldSecret) != 2 {
		t.Errorf("the second attempt has id %q, want %q and signatures", got.Header.Get("Webhook-Id"), m.ID)
	}
}

// What is for nobody to verify is left as it came: the receiver may verify a signature
// of the caller's.
func TestUnsigned(t *testing.T) {
	var r recorder
	srv := httptest.NewServer(&r)
	defer srv.Close()
	m := order()
	m.Header = fields("Webhook-Id", "theirs")
	deliver(t, newSink(t, policy(t, srv.URL)), m)
	if got := r.last(t); got.Header.Get("Webhook-Id") != "theirs" || got.Header["Webhook-Signature"] != nil {
		t.Errorf("fields = %v, want the caller's own and no signature", got.Header)
	}
}

func TestSignedBatch(t *testing.T) {
	for _, format := range []policies.BatchFormat{policies.BatchJSONArray, policies.BatchNDJSON} {
		var r recorder
		srv := httptest.NewServer(&r)
		defer srv.Close()
		p := policy(t, srv.URL+"/batch")
		p.HTTP.Batch = &policies.Batch{MaxMessages: 20, MaxBytes: 1000, MaxWait: time.Second, Format: format}
		p.HTTP.SignSecrets = secretsOf(t, newSecret)
		newSink(t, p).Drained().Deliver(t.Context(), documents(`{"n":1}`, "[ \"two\",\n2 ]"))
		got := r.last(t)
		if n := verified(t, got, newSecret); n != 1 {
			t.Errorf("%s: the signature does not hold for %q", format, got.Body)
		}
		if id := got.Header.Get("Webhook-Id"); id == "" || id != got.Header.Get("Idempotency-Key") {
			t.Errorf("%s: webhook-id = %q, want the batch's key %q", format, id, got.Header.Get("Idempotency-Key"))
		}
	}
}

// A live request is not signed, and nobody else signs it.
func TestLiveIsNotSigned(t *testing.T) {
	var r recorder
	srv := httptest.NewServer(&r)
	defer srv.Close()
	p := policy(t, srv.URL)
	p.HTTP.SignSecrets = secretsOf(t, newSecret)
	req, err := nethttp.NewRequestWithContext(t.Context(), nethttp.MethodGet, "http://caller.invalid/v1", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header = nethttp.Header{"Webhook-Id": {"forged"}, "Webhook-Signature": {"v1,forged"}, "X-Own": {"1"}}
	resp, err := newSink(t, p).Upstream().RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if got := r.last(t); got.Header["Webhook-Id"] != nil || got.Header["Webhook-Signature"] != nil || got.Header.Get("X-Own") != "1" {
		t.Errorf("fields = %v, want no signature at all", got.Header)
	}
	if req.Header.Get("Webhook-Id") != "forged" {
		t.Error("the caller's request was changed")
	}
}

func TestUnusableSignSecret(t *testing.T) {
	p := policy(t, "http://127.0.0.1:1")
	p.HTTP.SignSecrets = make([]policies.Secret, 1)
	if _, err := http.New(p); err == nil || !strings.Contains(err.Error(), "whsec_") {
		t.Errorf("New with an empty secret: %v, want an error that says what one is", err)
	}
}
