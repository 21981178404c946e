package app

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"forebay/buffer"
	"forebay/ingress"
)

// order posts one of a customer's, and returns the answer.
func (s *shopfront) order(customer string, header ...string) *http.Response {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.url+"/v1/orders", strings.NewReader(fmt.Sprintf(`{"customer":%q}`, customer)))
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

// state is what a receipt says.
func (s *shopfront) state(location string) string {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.url+location, http.NoBody)
	if err != nil {
		s.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	var receipt struct{ State string }
	if err := json.NewDecoder(resp.Body).Decode(&receipt); err != nil {
		s.t.Fatal(err)
	}
	return receipt.State
}

// A sink that may cancels what waits in the stream of an overflow route with its answer to
// a live request too: by the time the caller has the answer, who does not see that it was
// asked for. Where it may not, nothing is cancelled.
func TestLiveAnswerCancels(t *testing.T) {
	for may, want := range map[string]string{"may_cancel: true, ": "cancelled", "": "queued"} {
		sink := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Add("Forebay-Cancel-Key", "gone")
			w.Header().Add("Forebay-Cancel-Key", "of nobody")
			_, _ = fmt.Fprint(w, "done")
		}))
		t.Cleanup(sink.Close)
		policy := strings.NewReplacer("base: unlimited", "base: 0", "name: shop,", "name: shop, "+may).Replace(overflowTo(sink.URL, "rate: 1000/s, burst: 100"))
		var engine ingress.Buffer
		s := newShopfront(t, policy, func(b ingress.Buffer) ingress.Buffer { engine = b; return b })
		stored := map[string]string{}
		for _, customer := range []string{"gone", "stays"} {
			resp := s.order(customer, "Prefer", "respond-async")
			if resp.StatusCode != http.StatusAccepted {
				t.Fatalf("%q: stored with status %d", may, resp.StatusCode)
			}
			stored[customer] = resp.Header.Get("Location")
		}
		live := s.order("another")
		if live.StatusCode != http.StatusOK || live.Header.Get("Forebay-Cancel-Key") != "" {
			t.Fatalf("%q: the live answer: %d %v", may, live.StatusCode, live.Header)
		}
		if got := s.state(stored["gone"]); got != want {
			t.Errorf("%q: the message of the key is %s, want %s", may, got, want)
		}
		if got := s.state(stored["stays"]); got != "queued" {
			t.Errorf("%q: another message is %s, want queued", may, got)
		}
		accounts, err := engine.(buffer.Inspector).Audit(t.Context())
		if err != nil || len(accounts) != 1 || accounts[0].Imbalance() != 0 || (accounts[0].Cancelled == 1) != (may != "") {
			t.Errorf("%q: the books: %+v, %v", may, accounts, err)
		}
	}
}
