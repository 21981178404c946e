package parts

import (
	"cmp"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// KafkaOptions are the settings of a broker. The zero value will do.
type KafkaOptions struct {
	Heap     string            // the JVM's; 512m
	Settings map[string]string // lines of server.properties, over ours
	// Users have a password each. With some, the broker has another listener, with
	// TLS, where they may come by SASL: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512.
	Users map[string]string
}

// Kafka is one broker with its controller (KRaft). Topics are not made by
// themselves.
type Kafka struct {
	Process
	Addr string // host:port
	// With users: where they may come, and the certificate that signs the broker's.
	SecureAddr, CAFile string
}

// StartKafka starts a broker.
func StartKafka(t testing.TB, o KafkaOptions) *Kafka {
	t.Helper()
	dir, lib := t.TempDir(), filepath.Join(part(t, "kafka"), "lib", "*")
	k := &Kafka{Addr: local(freePort(t))}
	settings := k.settings(dir, local(freePort(t)))
	format := []string{"format"}
	if len(o.Users) > 0 {
		k.SecureAddr, k.CAFile = local(freePort(t)), filepath.Join(dir, "ca.pem")
		secure(settings, k.SecureAddr, keyStore(t, k.CAFile), o.Users)
		for _, name := range slices.Sorted(maps.Keys(o.Users)) {
			for _, mechanism := range []string{"SCRAM-SHA-256", "SCRAM-SHA-512"} {
				format = append(format, "--add-scram", fmt.Sprintf("%s=[name=%s,password=%s]", mechanism, name, o.Users[name]))
			}
		}
	}
	maps.Copy(settings, o.Settings)
	properties := filepath.Join(dir, "server.properties")
	write(t, properties, "%s", lines(settings))

	tool := func(args ...string) string {
		return run(t, java(t, "128m", lib, append([]string{"kafka.tools.StorageTool"}, args...)...))
	}
	id := strings.TrimSpace(tool("random-uuid"))
	tool(append(format, "-t", id[strings.LastIndexByte(id, '\n')+1:], "-c", properties)...)

	k.Process = Process{t: t, name: "kafka", within: 2 * time.Minute, command: func() *exec.Cmd {
		return java(t, cmp.Or(o.Heap, "512m"), lib, "kafka.Kafka", properties)
	}}
	k.ready = k.says("Kafka Server started")
	k.start()
	return k
}

func (k *Kafka) settings(dir, controller string) map[string]string {
	return map[string]string{
		"process.roles":                            "broker,controller",
		"node.id":                                  "1",
		"controller.quorum.voters":                 "1@" + controller,
		"controller.listener.names":                "CONTROLLER",
		"listeners":                                "PLAINTEXT://" + k.Addr + ",CONTROLLER://" + controller,
		"listener.security.protocol.map":           "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
		"log.dirs":                                 filepath.Join(dir, "data"),
		"auto.create.topics.enable":                "false",
		"offsets.topic.replication.factor":         "1",
		"offsets.topic.num.partitions":             "4",
		"transaction.state.log.replication.factor": "1",
		"transaction.state.log.min.isr":            "1",
		"group.initial.rebalance.delay.ms":         "0",
		// After a kill the broker waits for its own last session to end.
		"broker.session.timeout.ms":    "4000",
		"broker.heartbeat.interval.ms": "500",
	}
}

// secure adds a listener for users.
func secure(settings map[string]string, addr, keyStore string, users map[string]string) {
	settings["listeners"] += ",SECURE://" + addr
	settings["listener.security.protocol.map"] += ",SECURE:SASL_SSL"
	settings["sasl.enabled.mechanisms"] = "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512"
	const ours, modules = "listener.name.secure.", "org.apache.kafka.common.security."
	settings[ours+"ssl.keystore.type"] = "PEM"
	settings[ours+"ssl.keystore.location"] = keyStore
	settings[ours+"scram-sha-256.sasl.jaas.config"] = modules + "scram.ScramLoginModule required;"
	settings[ours+"scram-sha-512.sasl.jaas.config"] = modules + "scram.ScramLoginModule required;"
	plain := modules + "plain.PlainLoginModule required"
	for _, name := range slices.Sorted(maps.Keys(users)) {
		plain += fmt.Sprintf(" user_%s=%q", name, users[name])
	}
	settings[ours+"plain.sasl.jaas.config"] = plain + ";"
}

func lines(settings map[string]string) string {
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&text, "%s=%s\n", name, settings[name])
	}
	return text.String()
}

// Client is a client of the broker, closed at the end of the test.
func (k *Kafka) Client(opts ...kgo.Opt) *kgo.Client {
	k.t.Helper()
	client, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(k.Addr)}, opts...)...)
	if err != nil {
		k.t.Fatalf("a client of kafka: %v", err)
	}
	k.t.Cleanup(client.Close)
	return client
}

// CreateTopic makes a topic. The settings are its own, flush.messages=1 say.
func (k *Kafka) CreateTopic(name string, partitions int32, settings map[string]string) {
	k.t.Helper()
	own := make(map[string]*string, len(settings))
	for key, value := range settings {
		own[key] = new(value)
	}
	if _, err := kadm.NewClient(k.Client()).CreateTopic(k.t.Context(), partitions, 1, own, name); err != nil {
		k.t.Fatalf("make the topic %s: %v", name, err)
	}
}
