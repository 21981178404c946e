package policies

import (
	"crypto/tls"
	"crypto/x509"
)

// KafkaConnection is how a sink or a source reaches a cluster.
type KafkaConnection struct {
	Brokers []string // host:port
	TLS     *TLS     // nil: in the clear
	SASL    *SASL    // nil: without a name
}

// TLS is how a connection that Forebay opens is secured. The zero value trusts the
// system's authorities, and shows no certificate. It holds what files held when the
// policy was loaded, so that another content is another policy.
type TLS struct {
	CA          []byte // PEM; nil: the system's authorities
	Certificate []byte // PEM, of Forebay; nil: none
	Key         Secret // PEM, of the certificate
	ServerName  string // expected in the other side's certificate; empty: its host
	// Unverified takes any certificate, from anyone.
	Unverified bool
}

// Config returns what crypto/tls needs: TLS 1.2 or later. The policy was checked
// when it was loaded: an error means that it was made another way.
func (t *TLS) Config() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName, InsecureSkipVerify: t.Unverified}
	if t.CA != nil {
		c.RootCAs = x509.NewCertPool()
		c.RootCAs.AppendCertsFromPEM(t.CA)
	}
	if t.Certificate != nil {
		pair, err := tls.X509KeyPair(t.Certificate, []byte(t.Key.Reveal()))
		if err != nil {
			return nil, err
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// SASL is how Forebay shows a broker who it is.
type SASL struct {
	Mechanism SASLMechanism
	Username  string
	Password  Secret
}

// SASLMechanism is how a password is shown.
type SASLMechanism string

// The mechanisms. SASLPlain shows the broker the password itself.
const (
	SASLPlain       SASLMechanism = "plain"
	SASLScramSHA256 SASLMechanism = "scram-sha-256"
	SASLScramSHA512 SASLMechanism = "scram-sha-512"
)
