package kafka_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"

	"forebay/test/integration/parts"
)

// onlinePolicy has a source and a sink of one cluster, as alice.
func onlinePolicy(broker, ca, passwordFile, topic string) string {
	as := fmt.Sprintf(`brokers: [%q], tls: { ca_file: %s }, sasl: { mechanism: scram-sha-512, username: alice, password: "${file:%s}" }`, broker, ca, passwordFile)
	return fmt.Sprintf(`version: 1
sources:
  - { name: legacy, kafka: { %[1]s, topics: [%[2]s], group: forebay }, stream: orders, on_refused: { topic: orders.refused } }
sinks:
  - { name: events, kafka: { %[1]s, topic: %[3]s, max_consumer_lag: { group: crm, messages: 100 } }, budget: { rate: 5/s } }
streams: [{ name: orders }]
drains: [{ name: to-events, stream: orders, sink: events }]
`, as, raw, topic)
}

// TestCheckOnline: what a cluster would refuse is told before anything runs, each at its
// place in the policy.
func TestCheckOnline(t *testing.T) {
	k := parts.StartKafka(t, parts.KafkaOptions{Users: map[string]string{"alice": "her secret"}, Settings: map[string]string{
		"authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
		"super.users":           "User:ANONYMOUS", // the test's own clients, and the broker itself
	}})
	k.CreateTopic(raw, 1, nil)
	k.CreateTopic(out, 1, nil)
	k.CreateTopic("orders.refused", 1, nil)
	f := parts.StartForebay(t, "version: 1\n", parts.ForebayOptions{})
	dir := t.TempDir()
	path := filepath.Join(dir, "policy.yaml")
	write := func(name, text string) string {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	right, wrong := write("right", "her secret"), write("wrong", "a guess")
	check := func(broker, password, topic string, wants ...string) {
		t.Helper()
		write("policy.yaml", onlinePolicy(broker, k.CAFile, password, topic))
		said, code := f.Command("check", "--online", path)
		if (code == 1) != (len(wants) > 0) || code > 1 {
			t.Errorf("check --online = %d, want %q\n%s", code, wants, said)
		}
		for _, want := range wants {
			if !strings.Contains(said, want) {
				t.Errorf("check --online does not say %q\n%s", want, said)
			}
		}
		if strings.Contains(said, "her secret") || strings.Contains(said, "a guess") {
			t.Errorf("it tells a password:\n%s", said)
		}
	}
	const source, sink = "policy.yaml:3:13: error: source legacy: ", "policy.yaml:5:13: error: sink events: "
	nowhere, _ := hangsUp(t)
	check(nowhere, right, out, source+nowhere+" cannot be reached: ", sink+nowhere+" cannot be reached: ")
	check(k.SecureAddr, wrong, out, source+k.SecureAddr+" refuses sasl: SASL_AUTHENTICATION_FAILED", sink+k.SecureAddr+" refuses sasl: ")
	// Who has no right on a topic is not told whether it is there.
	check(k.SecureAddr, right, out, source+"no right to see topic "+raw, source+"no right to be of group forebay",
		sink+"no right to see topic "+out, sink+"no right to look at group crm")

	grant := func(b *kadm.ACLBuilder) {
		t.Helper()
		results, err := kadm.NewClient(k.Client()).CreateACLs(t.Context(), b.Allow("User:alice").AllowHosts().ResourcePatternType(kadm.ACLPatternLiteral))
		if err != nil || results[0].Err != nil {
			t.Fatalf("grant: %v, %+v", err, results)
		}
	}
	all := []string{raw, out, "orders.refused", "orders.v9"}
	grant(kadm.NewACLs().Topics(all...).Operations(kadm.OpDescribe))
	check(k.SecureAddr, right, out, source+"no right to read from topic "+raw, source+"no right to write to topic orders.refused", sink+"no right to write to topic "+out)
	grant(kadm.NewACLs().Topics(out, "orders.refused", "orders.v9").Operations(kadm.OpWrite))
	grant(kadm.NewACLs().Topics(raw).Operations(kadm.OpRead))
	grant(kadm.NewACLs().Groups("forebay").Operations(kadm.OpRead))
	grant(kadm.NewACLs().Groups("crm").Operations(kadm.OpDescribe))
	check(k.SecureAddr, right, out)
	check(k.SecureAddr, right, "orders.v9", sink+"topic orders.v9 is not there")
}
