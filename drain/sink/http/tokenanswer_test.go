package http_test

import (
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"forebay/drain"
)

// Where there is no token, nothing is sent, and the outcome says why in words of ours alone. The sink is
// left alone until the next fetch, of which there is at most one a second.
func TestNoToken(t *testing.T) {
	tests := []struct{ name, answer, want string }{
		{"client refused", `401 {"error":"invalid_client","error_description":"whisper"}`, "status 401, invalid_client"},
		{"bad request", `400 {"error":"unauthorized_client"}`, "status 400, unauthorized_client"},
		{"an error of its own", `400 {"error":"whisper"}`, "status 400"},
		{"busy", "503 whisper", "status 503"},
		{"redirect", "302 whisper", "status 302"},
		{"error with 200", `200 {"error":"whisper"}`, "the answer is an error"},
		{"known error with 200", `200 {"error":"invalid_scope"}`, "status 200, invalid_scope"},
		{"no JSON", "200 <html>whisper</html>", "the answer is not the JSON of a token"},
		{"another JSON", `200 ["whisper"]`, "the answer is not the JSON of a token"},
		{"cut off", `200 {"access_token":"whisper`, "the answer is not the JSON of a token"},
		{"empty", "200 ", "the answer is not the JSON of a token"},
		{"endless", "200 " + strings.Repeat(" ", 70<<10), "the answer is over 64 KiB"},
		{"no token", `200 {"token_type":"bearer"}`, "the answer has no access_token"},
		{"long token", `200 {"access_token":"` + strings.Repeat("x", 17<<10) + `"}`, "the access_token is over 16 KiB"},
		{"injection", `200 {"access_token":"whisper\r\nX: y"}`, "the access_token cannot stand in a header field"},
		{"other type", `200 {"access_token":"whisper","token_type":"mac"}`, "the token_type is not Bearer"},
		{"over already", `200 {"access_token":"whisper","expires_in":-5}`, "expires_in is not a number of seconds to come"},
		{"soon", `200 {"access_token":"whisper","expires_in":"soon"}`, "expires_in is not a number of seconds to come"},
		{"no number", `200 {"access_token":"whisper","expires_in":"NaN"}`, "expires_in is not a number of seconds to come"},
		{"a blink", `200 {"access_token":"whisper","expires_in":0.001}`, "expires_in is not a number of seconds to come"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var r recorder
			srv := httptest.NewServer(&r)
			defer srv.Close()
			i := newIssuer(t, tt.answer)
			s := newSink(t, authorized(t, srv.URL, i))
			host := strings.TrimPrefix(i.url, "http://")
			for range 3 {
				out := deliver(t, s, order())
				if want := "token: " + tt.want + ": " + host; out.Class != drain.Retry || out.Status != 0 || out.Error != want {
					t.Errorf("outcome = %+v, want a failure of the sink: %s", out, want)
				}
				if out.RetryAfter <= 0 || out.RetryAfter > time.Second {
					t.Errorf("RetryAfter = %v, want the time to the next fetch", out.RetryAfter)
				}
			}
			s.AgeToken(time.Second)
			if out := deliver(t, s, order()); out.RetryAfter <= time.Second || out.RetryAfter > 2*time.Second {
				t.Errorf("RetryAfter after the second fetch = %v, want up to 2 s", out.RetryAfter)
			}
			if n := i.count(); n != 2 {
				t.Errorf("%d fetches, want one before its time was over and one after", n)
			}
			if n := len(r.all()); n > 0 {
				t.Errorf("%d requests without a token", n)
			}
		})
	}
}

// What a server says of a token's life is believed within bounds.
func TestTokenLife(t *testing.T) {
	for expires, want := range map[string]struct{ holds, over time.Duration }{
		``:                                   {4*time.Minute + 49*time.Second, 5 * time.Minute},
		`,"expires_in":null`:                 {4*time.Minute + 49*time.Second, 5 * time.Minute},
		`,"expires_in":0`:                    {4*time.Minute + 49*time.Second, 5 * time.Minute},
		`,"expires_in":"600"`:                {9*time.Minute + 49*time.Second, 10 * time.Minute},
		`,"expires_in":99999999999999999999`: {23 * time.Hour, 24 * time.Hour},
		`,"expires_in":1e999`:                {23 * time.Hour, 24 * time.Hour},
	} {
		var r recorder
		srv := httptest.NewServer(&r)
		defer srv.Close()
		i := newIssuer(t, `200 {"access_token":"token-#"`+expires+`}`)
		i.hold = make(chan struct{})
		s := newSink(t, authorized(t, srv.URL, i))
		deliver(t, s, order())
		s.AgeToken(want.holds)
		deliver(t, s, order())
		if got := r.last(t).Header.Get("Authorization"); got != "Bearer token-1" {
			t.Errorf("%s: after %v %q, want the token still", expires, want.holds, got)
		}
		close(i.hold)
		s.AgeToken(want.over - want.holds)
		deliver(t, s, order())
		if got := r.last(t).Header.Get("Authorization"); got == "Bearer token-1" {
			t.Errorf("%s: after %v the token is used still", expires, want.over)
		}
	}
}

// There are servers that take the client's secret in the body alone.
func TestTokenSecretInBody(t *testing.T) {
	var r recorder
	srv := httptest.NewServer(&r)
	defer srv.Close()
	i := newIssuer(t, `401 {"error":"invalid_client"}`, granted)
	s := newSink(t, authorized(t, srv.URL, i))
	deliver(t, s, order())
	s.AgeToken(time.Second)
	if out := deliver(t, s, order()); out.Class != drain.Success {
		t.Errorf("outcome = %+v", out)
	}
	want := url.Values{"grant_type": {"client_credentials"}, "client_id": {"fore bay"}, "client_secret": {newSecret}}.Encode()
	if i.forms[1] != want || i.asked[1].Get("Authorization") != "" {
		t.Errorf("the second time asked with %q and Authorization %q, want %q alone", i.forms[1], i.asked[1].Get("Authorization"), want)
	}
}
