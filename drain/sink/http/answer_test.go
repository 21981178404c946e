package http_test

import (
	nethttp "net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"forebay/buffer"
)

// TestAnswer: a sink's answer is kept as far as the message asks, without what
// belongs to the connection or would log somebody in.
func TestAnswer(t *testing.T) {
	srv := httptest.NewServer(nethttp.HandlerFunc(func(w nethttp.ResponseWriter, _ *nethttp.Request) {
		h := w.Header()
		h.Set("Content-Type", "text/plain")
		h.Set("Date", "Thu, 11 Nov 2027 12:00:00 GMT")
		h.Set("Set-Cookie", "session=secret")
		h.Set("Keep-Alive", "timeout=5")
		h.Set("Location", "/orders/1")
		h.Set("Forebay-Rate", "350/s")
		w.WriteHeader(nethttp.StatusCreated)
		_, _ = w.Write([]byte("0123456789")) // the test sees what arrives
	}))
	t.Cleanup(srv.Close)
	s := newSink(t, policy(t, srv.URL))
	header := []buffer.Field{
		{Name: "Content-Type", Value: "text/plain"},
		{Name: "Date", Value: "Thu, 11 Nov 2027 12:00:00 GMT"},
		{Name: "Location", Value: "/orders/1"},
	}
	for _, tc := range []struct {
		keep int
		want *buffer.Answer
	}{
		{0, nil},
		{4, &buffer.Answer{Header: header, Body: []byte("0123"), Truncated: true}},
		{10, &buffer.Answer{Header: header, Body: []byte("0123456789")}},
		{1000, &buffer.Answer{Header: header, Body: []byte("0123456789")}},
	} {
		m := order()
		m.KeepAnswer = tc.keep
		got := deliver(t, s, m)
		if diff := cmp.Diff(tc.want, got.Answer); diff != "" || got.Status != nethttp.StatusCreated {
			t.Errorf("keep %d: status %d, answer (-want +got):\n%s", tc.keep, got.Status, diff)
		}
	}
}

// What an answer asks to cancel is told within bounds, whatever the status, and is
// no part of what is kept of it.
func TestCancelKeys(t *testing.T) {
	long := strings.Repeat("k", 1024)
	for _, tc := range []struct {
		name string
		sent []string
		want []string
	}{
		{"none", nil, nil},
		{"one", []string{"A-7"}, []string{"A-7"}},
		{"a comma is part of a key", []string{"eu/a,b", "A-8"}, []string{"eu/a,b", "A-8"}},
		{"an empty one", []string{"", "A-7"}, []string{"A-7"}},
		{"as long as may be, and longer", []string{long, long + "k"}, []string{long}},
		{"too many", slices.Repeat([]string{"a"}, 40), slices.Repeat([]string{"a"}, 16)},
	} {
		for _, status := range []int{200, 422, 500} {
			srv := httptest.NewServer(nethttp.HandlerFunc(func(w nethttp.ResponseWriter, _ *nethttp.Request) {
				w.Header()["Forebay-Cancel-Key"] = tc.sent
				w.WriteHeader(status)
			}))
			m := order()
			m.KeepAnswer = 10
			got := deliver(t, newSink(t, policy(t, srv.URL)), m)
			srv.Close()
			if diff := cmp.Diff(tc.want, got.CancelKeys); diff != "" {
				t.Errorf("%s, status %d (-want +got):\n%s", tc.name, status, diff)
			}
			for _, f := range got.Answer.Header {
				if f.Name == "Forebay-Cancel-Key" {
					t.Errorf("%s: it is kept of the answer", tc.name)
				}
			}
		}
	}
}
