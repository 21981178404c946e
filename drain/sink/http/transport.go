package http

import (
	"crypto/tls"
	"fmt"
	"net"
	nethttp "net/http"
	"time"

	"forebay/policies"
)

const (
	defaultConnectTimeout = 2 * time.Second
	defaultTimeout        = 30 * time.Second
	idleTimeout           = 90 * time.Second
	maxAnswerFields       = 64 << 10 // bytes of an answer's fields
	maxAnswerBody         = 64 << 10 // bytes of an answer's body that are read
)

func newDialer(p policies.HTTPSink) *net.Dialer {
	return &net.Dialer{Timeout: p.ConnectTimeout, KeepAlive: 30 * time.Second, Control: control(p)}
}

// NewTransport returns one that keeps to what the policy says of connecting and of TLS,
// and a connection for each of so many attempts at a time. Proxies of the environment are
// nothing to it. An error says what it cannot work with.
func NewTransport(p policies.HTTPSink, concurrency int) (*nethttp.Transport, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if p.TLS != nil {
		var err error
		if config, err = p.TLS.Config(); err != nil {
			return nil, fmt.Errorf("tls: %w", err)
		}
	}
	concurrency = max(1, concurrency)
	return &nethttp.Transport{
		DialContext:            newDialer(p).DialContext,
		Proxy:                  nil, // the environment does not decide where orders go
		TLSClientConfig:        config,
		TLSHandshakeTimeout:    p.ConnectTimeout,
		MaxIdleConns:           concurrency,
		MaxIdleConnsPerHost:    concurrency,
		IdleConnTimeout:        idleTimeout,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: maxAnswerFields,
		DisableCompression:     true,
	}, nil
}
