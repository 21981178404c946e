package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// kafkaRows are what is measured beside a broker, in turn.
var kafkaRows = []struct {
	name    string
	measure func(context.Context, options, *broker) error
}{
	{"accept", kafkaAccept},
}

// kafka measures all rows, or the one that is named, beside one broker.
func kafka(ctx context.Context, o options) (err error) {
	b, err := startBroker(o.kafka, filepath.Join(o.dir, fmt.Sprintf("kafka-%d", os.Getpid())))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.remove()) }()
	found := false
	for _, row := range kafkaRows {
		if o.row != "" && o.row != row.name {
			continue
		}
		found = true
		if err := row.measure(ctx, o, b); err != nil {
			return fmt.Errorf("%s: %w", row.name, err)
		}
	}
	if !found {
		return fmt.Errorf("no row %s", o.row)
	}
	return nil
}

// A broker is Apache Kafka with its controller, as its own scripts start it.
type broker struct {
	*process
	dir, lib string
	admin    *kadm.Client
	client   *kgo.Client
}

// Deleted topics give their disk back at once: the next round needs it.
const brokerConfig = `process.roles=broker,controller
node.id=1
controller.quorum.voters=1@%[2]s
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://%[1]s,CONTROLLER://%[2]s
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs=%[3]s/data
auto.create.topics.enable=false
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
log.segment.delete.delay.ms=1000
`

var brokerReady = regexp.MustCompile("Kafka Server started")

func startBroker(lib, dir string) (*broker, error) {
	if _, err := os.Stat(lib); err != nil {
		return nil, fmt.Errorf("kafka is not there (%w): run `make parts PART=kafka`", err)
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	b := &broker{dir: dir, lib: filepath.Join(lib, "*")}
	if err := b.launch(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return b, nil
}

func (b *broker) launch() error {
	addr, err := freeAddress()
	if err != nil {
		return err
	}
	controller, err := freeAddress()
	if err != nil {
		return err
	}
	config := filepath.Join(b.dir, "server.properties")
	if err := os.WriteFile(config, fmt.Appendf(nil, brokerConfig, addr, controller, b.dir), 0o600); err != nil {
		return err
	}
	const cluster = "4L6g3nShT-eMCtK--X86sw" // any id will do
	format := b.java("256m", "kafka.tools.StorageTool", "format", "-t", cluster, "-c", config)
	if out, err := format.CombinedOutput(); err != nil {
		return fmt.Errorf("format the broker's disk: %w\n%s", err, out)
	}
	if b.process, err = startUntil(b.java("1G", "kafka.Kafka", config), brokerReady); err != nil {
		return err
	}
	b.public = addr
	if b.client, err = kgo.NewClient(kgo.SeedBrokers(addr)); err != nil {
		return errors.Join(err, b.stop())
	}
	b.admin = kadm.NewClient(b.client)
	return nil
}

// java is a command with the flags of Kafka's own scripts.
func (b *broker) java(heap string, args ...string) *exec.Cmd {
	flags := []string{
		"-Xms" + heap, "-Xmx" + heap, "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20",
		"-XX:InitiatingHeapOccupancyPercent=35", "-XX:+ExplicitGCInvokesConcurrent", "-cp", b.lib,
	}
	return exec.Command("java", append(flags, args...)...)
}

// remove ends the broker and takes its data away.
func (b *broker) remove() error {
	b.client.Close()
	err := b.stop()
	var ended *exec.ExitError
	if errors.As(err, &ended) && ended.ExitCode() == 143 { // a JVM that was asked to end
		err = nil
	}
	return errors.Join(err, os.RemoveAll(b.dir))
}

// topic makes a topic and returns what deletes it.
func (b *broker) topic(ctx context.Context, name string, partitions int32, settings map[string]*string) (func() error, error) {
	if _, err := b.admin.CreateTopic(ctx, partitions, 1, settings, name); err != nil {
		return nil, fmt.Errorf("make the topic %s: %w", name, err)
	}
	return func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		_, err := b.admin.DeleteTopic(ctx, name)
		return err
	}, nil
}
