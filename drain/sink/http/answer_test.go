package http_test

import (
	nethttp "net/http"
	"net/http/httptest"
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
