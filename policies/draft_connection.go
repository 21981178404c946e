package policies

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"regexp"
	"time"
)

var (
	brokerForm     = regexp.MustCompile(`^([0-9A-Za-z._-]+|\[[0-9A-Fa-f:.]+\]):[1-9][0-9]{0,4}$`)
	serverNameForm = regexp.MustCompile(`^[0-9A-Za-z]([0-9A-Za-z._-]*[0-9A-Za-z])?$`)
)

const maxBrokers = 64

// connectionFields are the keys by which a sink or a source reaches a cluster.
func connectionFields[T any](of func(*T) *KafkaConnection) []field[T] {
	return []field[T]{
		wordsField("brokers", brokerForm, "host:port, such as kafka-1:9093", maxBrokers, func(x *T) *[]string { return &of(x).Brokers }).
			must(`["kafka-1:9093"]`).says("Where the cluster is: host:port."),
		optional("tls", &tlsSchema, func(x *T) **TLS { return &of(x).TLS }).such("{ ca_file: /etc/forebay/tls/kafka-ca.pem }").
			says("Secures the connections; {} trusts the system's authorities. Default: none."),
		optional("sasl", &saslSchema, func(x *T) **SASL { return &of(x).SASL }).such("{ mechanism: scram-sha-512, username: …, password: … }").
			says("How Forebay shows the brokers who it is; default: not at all."),
	}
}

// checkConnection reports a password that anyone on the way could read.
func checkConnection(v value, c *KafkaConnection, keys keys) {
	if c.SASL != nil && c.SASL.Mechanism == SASLPlain && c.TLS == nil && c.public() != "" {
		keys.at(v, "sasl").fail("add tls: {}, or use mechanism: scram-sha-512", "sasl would send its password to %s in clear text", c.public())
	}
}

// public is a broker that lies beyond the own network; empty: none does.
func (c *KafkaConnection) public() string {
	for _, b := range c.Brokers {
		if host, _, err := net.SplitHostPort(b); err == nil && isPublic(host) {
			return b
		}
	}
	return ""
}

var tlsSchema = schema[TLS]{
	what: "tls",
	fields: []field[TLS]{
		pemField("ca_file", func(v value, t *TLS, pem []byte) {
			if !x509.NewCertPool().AppendCertsFromPEM(pem) {
				v.fail("write certificates in PEM there", "ca_file holds no certificate")
				return
			}
			t.CA = pem
		}).such("/etc/forebay/tls/kafka-ca.pem").says("The certificates that sign those of the other side, in PEM; default: the system's."),
		pemField("cert_file", func(_ value, t *TLS, pem []byte) { t.Certificate = pem }).such("/etc/forebay/tls/client.pem").
			says("Forebay's certificate, in PEM; default: none is shown."),
		pemField("key_file", func(_ value, t *TLS, pem []byte) { t.Key = Secret{string(pem)} }).such("/run/secrets/forebay/client.key").
			says("The key of cert_file, in PEM."),
		wordField("server_name", serverNameForm, "a host name", func(t *TLS) *string { return &t.ServerName }).
			says("The name that the other side's certificate has to have; default: its host."),
		booleanField("insecure_skip_verify", func(t *TLS) *bool { return &t.Unverified }).
			says("Takes any certificate, from anyone: for tests alone; default false."),
	},
	check: checkTLS,
}

func checkTLS(v value, t *TLS, keys keys) {
	switch {
	case keys["cert_file"] != nil && keys["key_file"] == nil:
		keys.at(v, "cert_file").fail("add key_file", "tls has a cert_file and no key_file")
	case keys["cert_file"] == nil && keys["key_file"] != nil:
		keys.at(v, "key_file").fail("add cert_file", "tls has a key_file and no cert_file")
	case t.Certificate != nil && t.Key != (Secret{}):
		if _, err := tls.X509KeyPair(t.Certificate, []byte(t.Key.Reveal())); err != nil {
			keys.at(v, "cert_file").fail("write a certificate and its key there, both in PEM", "cert_file and key_file are no pair: %v", err)
		}
	}
	if t.Unverified && keys["ca_file"] != nil {
		keys.at(v, "ca_file").fail("remove one of them", "ca_file has no effect with insecure_skip_verify")
	}
}

// pemField is the name of a file whose content the policy keeps.
func pemField[T any](name string, keep func(v value, to *T, pem []byte)) field[T] {
	return field[T]{
		name: name, shape: shape{"type": "string", "minLength": 1},
		read: func(v value, to *T) {
			if data, ok := v.file(new(string)); ok {
				keep(v, to, data)
			}
		},
	}
}

var saslSchema = schema[SASL]{
	what: "sasl",
	fields: []field[SASL]{
		choiceField("mechanism", []SASLMechanism{SASLPlain, SASLScramSHA256, SASLScramSHA512}, nil, func(s *SASL) *SASLMechanism { return &s.Mechanism }).
			must("scram-sha-512").says("plain, scram-sha-256 or scram-sha-512."),
		wordField("username", identityForm, "the name that the brokers know", func(s *SASL) *string { return &s.Username }).must("forebay").
			says("Forebay's name at the brokers."),
		secretField("password", func(s *SASL) *Secret { return &s.Password }).must(`"${file:/run/secrets/NAME}"`).
			says("A reference to its password: ${env:NAME} or ${file:/path}."),
	},
}

// timeouts are those of an attempt, wherever a sink keeps them.
type timeouts struct{ connect, total *time.Duration }

func timeoutField[T any](of func(*T) (connect, total *time.Duration)) field[T] {
	return field[T]{
		name: "timeout", shape: timeoutSchema.shape(), about: "Of an attempt.",
		read: func(v value, to *T) {
			connect, total := of(to)
			timeoutSchema.read(v.as(timeoutSchema.what), &timeouts{connect, total})
		},
	}
}

var timeoutSchema = schema[timeouts]{
	what: "timeout",
	fields: []field[timeouts]{
		durationField("connect", time.Millisecond, maxTimeout, func(t *timeouts) *time.Duration { return t.connect }).such("2s").
			says("To connect, and again for the TLS handshake; default 2s, at most total."),
		durationField("total", time.Millisecond, maxTimeout, func(t *timeouts) *time.Duration { return t.total }).
			says("Of connection, request and answer; default 30s."),
	},
	check: func(v value, t *timeouts, keys keys) {
		// A total below the default of connect is no mistake: it bounds both.
		if keys["connect"] == nil {
			*t.connect = min(*t.connect, *t.total)
		}
		if *t.connect > *t.total {
			keys.at(v, "connect").fail("total includes connecting: raise it, or lower connect",
				"connect %s is longer than total %s", formatDuration(*t.connect), formatDuration(*t.total))
		}
	},
}

const (
	defaultConnectTimeout = 2 * time.Second
	defaultTimeout        = 30 * time.Second
)
