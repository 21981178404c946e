package http

import (
	"net"
	nethttp "net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"forebay/policies"
)

func TestConnect(t *testing.T) {
	plain := httptest.NewServer(nethttp.NotFoundHandler())
	defer plain.Close()
	secure := httptest.NewTLSServer(nethttp.NotFoundHandler())
	defer secure.Close()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // the kernel accepts
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	for raw, want := range map[string]string{
		plain.URL:                           "",
		"http://" + silent.Addr().String():  "",
		secure.URL:                          "tls: ",
		"https://" + silent.Addr().String(): "timeout: ",
		"http://" + gone.Addr().String():    "connection refused: ",
		"http://169.254.169.254":            "refused address: ",
		"http://no-such-host.invalid":       "unresolved host: ",
	} {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		s, err := New(policies.Sink{HTTP: &policies.HTTPSink{URLs: []*url.URL{u}, ConnectTimeout: 200 * time.Millisecond}})
		if err != nil {
			t.Fatal(err)
		}
		err = s.Connect(t.Context(), u)
		if want == "" && err != nil || want != "" && (err == nil || !strings.HasPrefix(err.Error(), want)) {
			t.Errorf("Connect to %s = %v, want %q", raw, err, want)
		}
	}
}
