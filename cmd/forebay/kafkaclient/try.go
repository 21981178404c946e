package kafkaclient

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"forebay/policies"
)

// Trouble is what keeps a sink or a source from its work, or may.
type Trouble struct {
	Message, Hint string
	Warning       bool // it only may
}

// TrySink connects as a sink does, and finds what brokers would refuse it: itself, the
// topic, the right to write there, the group of max_consumer_lag. It produces nothing.
// It blocks until the brokers have answered or ctx is done.
func TrySink(ctx context.Context, k policies.KafkaSink) []Trouble {
	t, err := newTrial(ctx, k.KafkaConnection)
	if err != nil {
		return unreachable(k.KafkaConnection, err)
	}
	defer t.client.Close()
	t.topic(k.Topic, kmsg.ACLOperationWrite, "write to")
	if k.Acks == policies.AcksAll {
		t.idempotence()
	}
	t.batches(k.Topic, k.MaxBatchBytes)
	if lag := k.MaxConsumerLag; lag != nil {
		t.group(lag.Group, kmsg.ACLOperationDescribe, "look at")
	}
	return t.found
}

// TrySource is TrySink for a source: its topics, the right to read them and to be of the
// group, and the topic for what is refused, if there is one.
func TrySource(ctx context.Context, s policies.Source) []Trouble {
	k := s.Kafka
	t, err := newTrial(ctx, k.KafkaConnection)
	if err != nil {
		return unreachable(k.KafkaConnection, err)
	}
	defer t.client.Close()
	for _, topic := range k.Topics {
		t.topic(topic, kmsg.ACLOperationRead, "read from")
	}
	t.group(k.Group, kmsg.ACLOperationRead, "be of")
	if s.RefusedTopic != "" {
		t.topic(s.RefusedTopic, kmsg.ACLOperationWrite, "write to")
	}
	return t.found
}

// trial asks a cluster what it would let a client do.
type trial struct {
	ctx    context.Context
	client *kgo.Client
	found  []Trouble
}

func newTrial(ctx context.Context, c policies.KafkaConnection) (*trial, error) {
	opts, err := Options(c, ConnectTimeout, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	client, err := kgo.NewClient(append(opts, kgo.RequestRetries(2))...)
	if err != nil {
		return nil, err
	}
	pinged := make(chan error, 1)
	go func() { pinged <- client.Ping(ctx) }() // it may outlast ctx, until the client is closed
	select {
	case err = <-pinged:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		client.Close()
		return nil, err
	}
	return &trial{ctx: ctx, client: client}, nil
}

func unreachable(c policies.KafkaConnection, err error) []Trouble {
	var verify *tls.CertificateVerificationError
	brokers := strings.Join(c.Brokers, ", ")
	hint := "is the cluster there, and is it brokers that lists it?"
	switch {
	case errors.Is(err, kerr.SaslAuthenticationFailed), errors.Is(err, kerr.UnsupportedSaslMechanism), errors.Is(err, kerr.IllegalSaslState):
		return []Trouble{{Message: fmt.Sprintf("%s refuses sasl: %v", brokers, err), Hint: "mend mechanism, username or password"}}
	case errors.As(err, &verify):
		hint = "write the certificate that signs the brokers' into ca_file, or the name that theirs has into server_name"
	case c.TLS == nil:
		hint += " does it want tls or sasl?"
	}
	return []Trouble{{Message: fmt.Sprintf("%s cannot be reached: %v", brokers, err), Hint: hint}}
}

func (t *trial) fail(hint, format string, args ...any) {
	t.found = append(t.found, Trouble{Message: fmt.Sprintf(format, args...), Hint: hint})
}

func (t *trial) warn(hint, format string, args ...any) {
	t.found = append(t.found, Trouble{Message: fmt.Sprintf(format, args...), Hint: hint, Warning: true})
}

// topic has to be there, with a right.
func (t *trial) topic(name string, right kmsg.ACLOperation, verb string) {
	req := kmsg.NewPtrMetadataRequest()
	asked := kmsg.NewMetadataRequestTopic()
	asked.Topic = new(name)
	req.Topics, req.IncludeTopicAuthorizedOperations = append(req.Topics, asked), true
	resp, err := req.RequestWith(t.ctx, t.client)
	if err == nil && len(resp.Topics) == 0 {
		err = kerr.UnknownTopicOrPartition
	}
	if err == nil {
		err = kerr.ErrorForCode(resp.Topics[0].ErrorCode)
	}
	switch {
	case errors.Is(err, kerr.UnknownTopicOrPartition):
		t.fail("make it, or mend its name; brokers say the same of topics that may not be seen", "topic %s is not there", name)
	case errors.Is(err, kerr.TopicAuthorizationFailed):
		t.fail("grant it", "no right to see topic %s", name)
	case err != nil:
		t.fail("", "topic %s: %v", name, err)
	case !allows(resp.Topics[0].AuthorizedOperations, right):
		t.fail("grant it", "no right to %s topic %s", verb, name)
	}
}

// allows reports whether a right is among those of an answer, or not told.
func allows(operations int32, right kmsg.ACLOperation) bool {
	return operations == math.MinInt32 || operations&(1<<right) != 0
}

func (t *trial) idempotence() {
	resp, err := kmsg.NewPtrInitProducerIDRequest().RequestWith(t.ctx, t.client)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if err != nil {
		t.fail("grant IdempotentWrite on the cluster, or write acks: leader, which may double records", "no right to produce idempotently: %v", err)
	}
}

// batches warns of a topic that takes less than may be sent. Who may not know is not told.
func (t *trial) batches(topic string, most int64) {
	configs, err := kadm.NewClient(t.client).DescribeTopicConfigs(t.ctx, topic)
	if err != nil || len(configs) == 0 || configs[0].Err != nil {
		return
	}
	for _, c := range configs[0].Configs {
		takes, err := strconv.ParseInt(c.MaybeValue(), 10, 64)
		if c.Key == "max.message.bytes" && err == nil && takes < most {
			t.warn(fmt.Sprintf("write max_batch_bytes: %d, or raise the topic's", takes),
				"topic %s takes batches of %d bytes, and max_batch_bytes is %d: a record in between is buried", topic, takes, most)
		}
	}
}

func (t *trial) group(name string, right kmsg.ACLOperation, verb string) {
	req := kmsg.NewPtrDescribeGroupsRequest()
	req.Groups, req.IncludeAuthorizedOperations = []string{name}, true
	resp, err := t.describe(req)
	for young(err) && pause(t.ctx) {
		resp, err = t.describe(req)
	}
	switch {
	case errors.Is(err, kerr.GroupIDNotFound):
	case errors.Is(err, kerr.GroupAuthorizationFailed):
		t.fail("grant it", "no right to %s group %s", verb, name)
	case err != nil:
		t.fail("", "group %s: %v", name, err)
	case len(resp.Groups) > 0 && !allows(resp.Groups[0].AuthorizedOperations, right):
		t.fail("grant it", "no right to %s group %s", verb, name)
	}
}

func (t *trial) describe(req *kmsg.DescribeGroupsRequest) (*kmsg.DescribeGroupsResponse, error) {
	resp, err := req.RequestWith(t.ctx, t.client)
	if err == nil && len(resp.Groups) > 0 {
		err = kerr.ErrorForCode(resp.Groups[0].ErrorCode)
	}
	return resp, err
}

// young reports whether an error is of a cluster that no group has come to yet: it makes
// the topic for groups when it is asked for the first one.
func young(err error) bool {
	return errors.Is(err, kerr.CoordinatorNotAvailable) || errors.Is(err, kerr.CoordinatorLoadInProgress) || errors.Is(err, kerr.NotCoordinator)
}

// pause waits before the next try, and reports whether there is time for it.
func pause(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(100 * time.Millisecond):
		return true
	}
}
