package http_test

import (
	"encoding/pem"
	nethttp "net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"forebay/drain"
	"forebay/policies"
)

// The authorities of the policy are trusted in the place of the system's, alone and in
// batches.
func TestSinkTLS(t *testing.T) {
	srv := httptest.NewTLSServer(nethttp.HandlerFunc(func(nethttp.ResponseWriter, *nethttp.Request) {}))
	t.Cleanup(srv.Close)
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	for name, batch := range map[string]*policies.Batch{
		"alone":      nil,
		"in batches": {MaxMessages: 2, MaxBytes: 1000, Format: policies.BatchNDJSON},
	} {
		t.Run(name, func(t *testing.T) {
			p := policy(t, srv.URL+"/orders")
			p.HTTP.Batch = batch
			if got := newSink(t, p).Drained().Deliver(t.Context(), documents("1"))[0]; got.Class != drain.Retry || !strings.HasPrefix(got.Error, "tls: ") {
				t.Errorf("with the system's authorities: %+v", got)
			}
			p.HTTP.TLS = &policies.TLS{CA: authority}
			if got := newSink(t, p).Drained().Deliver(t.Context(), documents("1"))[0]; got.Class != drain.Success {
				t.Errorf("with its own: %+v", got)
			}
		})
	}
}
