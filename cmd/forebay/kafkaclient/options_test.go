package kafkaclient

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"forebay/policies"
)

// connection is what a policy says of a cluster.
func connection(t *testing.T, brokers []string, more string) policies.KafkaConnection {
	t.Helper()
	policy := fmt.Sprintf("version: 1\nsinks: [{ name: k, kafka: { brokers: [%q], topic: t%s } }]\n", brokers[0], more)
	set, mistakes := policies.Parse([]policies.File{{Name: "p.yaml", Data: []byte(policy)}})
	if len(mistakes) > 0 {
		t.Fatalf("%v in\n%s", mistakes, policy)
	}
	return set.Sink("k").Kafka.KafkaConnection
}

// ping asks a cluster whether it is there.
func ping(t *testing.T, c policies.KafkaConnection, log *slog.Logger) error {
	t.Helper()
	opts, err := Options(c, ConnectTimeout, log)
	if err != nil {
		t.Fatal(err)
	}
	client, err := kgo.NewClient(append(opts, kgo.RetryTimeout(time.Second), kgo.RequestRetries(1))...)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	return client.Ping(ctx)
}

// authority signs the certificates of a test.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir()}
	a.cert = &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	a.key = a.issue(t, "ca", nil)
	return a
}

// issue writes NAME.pem and NAME.key.
func (a *authority) issue(t *testing.T, name string, cert *x509.Certificate) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer := a.key
	if cert == nil {
		cert, signer = a.cert, key
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, a.cert, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	pkcs, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{".pem": {Type: "CERTIFICATE", Bytes: der}, ".key": {Type: "PRIVATE KEY", Bytes: pkcs}} {
		if err := os.WriteFile(filepath.Join(a.dir, name+file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return key
}

// config is that of a broker which asks for certificates of the authority.
func (a *authority) config(t *testing.T) *tls.Config {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(filepath.Join(a.dir, "ca.pem"), filepath.Join(a.dir, "ca.key"))
	if err != nil {
		t.Fatal(err)
	}
	pool, pemOf := x509.NewCertPool(), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]})
	pool.AppendCertsFromPEM(pemOf)
	return &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}
}

func TestTLS(t *testing.T) {
	a, stranger := newAuthority(t), newAuthority(t)
	a.issue(t, "client", &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: a.cert.NotBefore, NotAfter: a.cert.NotAfter, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	cluster := kfake.MustCluster(kfake.NumBrokers(1), kfake.TLS(a.config(t)))
	defer cluster.Close()
	shown := fmt.Sprintf("cert_file: %s/client.pem, key_file: %[1]s/client.key", a.dir)
	for name, tt := range map[string]struct{ tls, want string }{
		"trusted":     {", tls: { ca_file: " + a.dir + "/ca.pem, " + shown + " }", ""},
		"unknown":     {", tls: { ca_file: " + a.dir + "/ca.pem }", "certificate required"},
		"a stranger":  {", tls: { ca_file: " + stranger.dir + "/ca.pem, " + shown + " }", "certificate"},
		"other name":  {", tls: { server_name: kafka.internal, ca_file: " + a.dir + "/ca.pem, " + shown + " }", "kafka.internal"},
		"whoever":     {", tls: { insecure_skip_verify: true, " + shown + " }", ""},
		"by its name": {", tls: { server_name: localhost, ca_file: " + a.dir + "/ca.pem, " + shown + " }", ""},
	} {
		err := ping(t, connection(t, cluster.ListenAddrs(), tt.tls), slog.New(slog.DiscardHandler))
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want an error with %q", name, err, tt.want)
		}
	}
}

func TestSASL(t *testing.T) {
	const password = "correct horse"
	t.Setenv("FOREBAY_TEST_RIGHT", password)
	t.Setenv("FOREBAY_TEST_WRONG", "hunter2")
	cluster := kfake.MustCluster(kfake.NumBrokers(1), kfake.EnableSASL(),
		kfake.Superuser("PLAIN", "plain", password), kfake.Superuser("SCRAM-SHA-256", "scram-sha-256", password), kfake.Superuser("SCRAM-SHA-512", "scram-sha-512", password))
	defer cluster.Close()
	for _, mechanism := range []policies.SASLMechanism{policies.SASLPlain, policies.SASLScramSHA256, policies.SASLScramSHA512} {
		for variable, right := range map[string]bool{"FOREBAY_TEST_RIGHT": true, "FOREBAY_TEST_WRONG": false} {
			var log bytes.Buffer
			c := connection(t, cluster.ListenAddrs(), fmt.Sprintf(`, sasl: { mechanism: %s, username: %[1]s, password: "${env:%s}" }`, mechanism, variable))
			err := ping(t, c, slog.New(slog.NewTextHandler(&log, nil)))
			if (err == nil) != right {
				t.Errorf("%s with %s: %v", mechanism, variable, err)
			}
			if said := fmt.Sprint(err) + log.String(); strings.Contains(said, "hunter2") || strings.Contains(said, password) {
				t.Errorf("%s tells the password: %s", mechanism, said)
			}
			if n := strings.Count(log.String(), "level=WARN"); n > 1 {
				t.Errorf("%s with %s: %d warnings of the same\n%s", mechanism, variable, n, log.String())
			}
		}
	}
}

func TestMechanismIsKnown(t *testing.T) {
	_, err := Options(policies.KafkaConnection{SASL: &policies.SASL{Mechanism: "gssapi"}}, ConnectTimeout, slog.Default())
	if err == nil {
		t.Error("Options took sasl by gssapi")
	}
}

func TestMetadataServicesAreNotDialled(t *testing.T) {
	err := ping(t, connection(t, []string{"169.254.169.254:9092"}, ""), slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "link-local") {
		t.Errorf("Ping = %v, want a refusal of the address", err)
	}
}

func TestLogIsQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		q := newQuiet(slog.New(slog.NewTextHandler(&log, nil)))
		for range 3 {
			q.Log(kgo.LogLevelError, "unable to initialize sasl")
			q.Log(kgo.LogLevelWarn, "unable to open connection")
			q.Log(kgo.LogLevelInfo, "producing")
			<-time.After(silence / 2)
		}
		for i := range 2 * maxTold {
			q.Log(kgo.LogLevelError, fmt.Sprint(i))
		}
		if n := strings.Count(log.String(), "sasl"); n != 2 || strings.Contains(log.String(), "connection") || strings.Contains(log.String(), "producing") {
			t.Errorf("sasl is told of %d times in 90 s, want 2, and nothing else:\n%s", n, log.String())
		}
		if len(q.told) > maxTold {
			t.Errorf("%d messages are remembered", len(q.told))
		}
	})
}
