package http

import (
	"crypto/x509"
	"time"
)

// AdviceOf is what an answer says of how much its sink takes.
var AdviceOf = advice

// ByTransport has net/http make all exchanges.
func (s *Sink) ByTransport() { s.client = nil }

// Trust has the sink believe the authorities of a pool.
func (s *Sink) Trust(pool *x509.CertPool) { s.transport.TLSClientConfig.RootCAs = pool }

// Idle returns how many connections of drains are not in use, and how many of them
// have nothing to be read and are open.
func (s *Sink) Idle() (all, quiet int) {
	s.client.mu.Lock()
	defer s.client.mu.Unlock()
	for _, idle := range s.client.idle {
		for _, cn := range idle {
			if all++; cn.quiet() {
				quiet++
			}
		}
	}
	return all, quiet
}

// Age has idle connections be so much older, and looks which are too old.
func (s *Sink) Age(by time.Duration) {
	s.client.mu.Lock()
	for _, idle := range s.client.idle {
		for _, cn := range idle {
			cn.since = cn.since.Add(-by)
		}
	}
	s.client.mu.Unlock()
	s.client.tidy()
}

// Signatures are those of a body with each key.
var Signatures = signatures

// AgeToken has the access token, and what was fetched last, be so much older.
func (s *Sink) AgeToken(by time.Duration) {
	t := s.identity.tokens
	t.mu.Lock()
	defer t.mu.Unlock()
	t.present.renew, t.present.ends, t.next = t.present.renew.Add(-by), t.present.ends.Add(-by), t.next.Add(-by)
}
