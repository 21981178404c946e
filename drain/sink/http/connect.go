package http

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
)

// Connect opens a connection to a URL of the sink, TLS included, as an attempt would,
// and closes it. It sends no request. It blocks for at most the connect time-out twice.
func (s *Sink) Connect(ctx context.Context, u *url.URL) error {
	ctx, cancel := context.WithTimeout(ctx, 2*s.policy.ConnectTimeout)
	defer cancel()
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	conn, err := s.transport.DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err == nil && u.Scheme == "https" {
		config := s.transport.TLSClientConfig.Clone()
		config.ServerName = u.Hostname()
		secure := tls.Client(conn, config)
		err = secure.HandshakeContext(ctx)
		conn = secure
	}
	if conn != nil {
		conn.Close() // nothing was sent
	}
	if err != nil {
		return fmt.Errorf("%s: %w", category(err), err)
	}
	return nil
}
