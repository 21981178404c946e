package kafkaclient

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"forebay/policies"
)

// Name is what brokers know Forebay's clients by.
const Name = "forebay"

// ConnectTimeout is that of connections whose policy has none of its own.
const ConnectTimeout = 2 * time.Second

// Options are those of any client of a cluster. Connecting, TLS included, takes at
// most connect. The log hears of what franz-go calls errors as warnings, the same
// once a minute, and of all else when it is at debug. An error says what in the policy cannot be
// used; nothing is connected to.
func Options(c policies.KafkaConnection, connect time.Duration, log *slog.Logger) ([]kgo.Opt, error) {
	dial, err := dialer(c.TLS, connect)
	if err != nil {
		return nil, err
	}
	opts := []kgo.Opt{
		kgo.SeedBrokers(c.Brokers...),
		kgo.ClientID(Name),
		kgo.SoftwareNameAndVersion(Name, "1"),
		kgo.Dialer(dial),
		kgo.WithLogger(newQuiet(log)),
		kgo.DisableClientMetrics(), // they would tell the brokers how we are
	}
	if c.SASL != nil {
		m, err := mechanism(*c.SASL)
		if err != nil {
			return nil, err
		}
		opts = append(opts, kgo.SASL(m))
	}
	return opts, nil
}

func mechanism(s policies.SASL) (sasl.Mechanism, error) {
	user, password := s.Username, s.Password.Reveal()
	switch s.Mechanism {
	case policies.SASLPlain:
		return plain.Auth{User: user, Pass: password}.AsMechanism(), nil
	case policies.SASLScramSHA256:
		return scram.Auth{User: user, Pass: password}.AsSha256Mechanism(), nil
	case policies.SASLScramSHA512:
		return scram.Auth{User: user, Pass: password}.AsSha512Mechanism(), nil
	default:
		return nil, fmt.Errorf("sasl: no mechanism %q", s.Mechanism)
	}
}

// dialer connects as http sinks do: to no link-local or metadata address, whatever a
// broker says that the others are called.
func dialer(t *policies.TLS, connect time.Duration) (func(ctx context.Context, network, host string) (net.Conn, error), error) {
	plain := &net.Dialer{Timeout: connect, KeepAlive: 30 * time.Second, Control: control}
	if t == nil {
		return plain.DialContext, nil
	}
	config, err := t.Config()
	if err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	return (&tls.Dialer{NetDialer: plain, Config: config}).DialContext, nil
}

// control is called with the address that is about to be dialled.
func control(_, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("address %s: %w", address, err)
	}
	if anywhere := (&policies.HTTPSink{}); !anywhere.MayDial(ap.Addr()) {
		return fmt.Errorf("address %s is link-local, a metadata service or none at all", ap.Addr())
	}
	return nil
}
