package http

import (
	"crypto/tls"
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

func newTransport(p policies.HTTPSink, concurrency int) *nethttp.Transport {
	return &nethttp.Transport{
		DialContext:            newDialer(p).DialContext,
		Proxy:                  nil, // the environment does not decide where orders go
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    p.ConnectTimeout,
		MaxIdleConns:           concurrency,
		MaxIdleConnsPerHost:    concurrency,
		IdleConnTimeout:        idleTimeout,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: maxAnswerFields,
		DisableCompression:     true,
	}
}
