package kafkaclient

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"forebay/policies"
)

func acl(resource kmsg.ACLResourceType, name string, operation kmsg.ACLOperation) kfake.ACL {
	return kfake.ACL{Resource: resource, Name: name, Pattern: kmsg.ACLResourcePatternTypeLiteral, Operation: operation, Allow: true}
}

// said are the messages of what was found, warnings marked.
func said(found []Trouble) []string {
	list := []string{}
	for _, t := range found {
		if t.Warning {
			t.Message = "warning: " + t.Message
		}
		list = append(list, t.Message)
	}
	return list
}

func TestTry(t *testing.T) {
	t.Setenv("FOREBAY_TEST_RIGHT", "right")
	const topics, groups = kmsg.ACLResourceTypeTopic, kmsg.ACLResourceTypeGroup
	cluster := kfake.MustCluster(kfake.NumBrokers(1), kfake.EnableSASL(), kfake.EnableACLs(), kfake.SeedTopics(1, "orders", "refused", "other"),
		kfake.Superuser("PLAIN", "admin", "right"), kfake.User("PLAIN", "shop", "right",
			acl(topics, "orders", kmsg.ACLOperationWrite), acl(topics, "orders", kmsg.ACLOperationRead), acl(topics, "other", kmsg.ACLOperationRead),
			acl(groups, "crm", kmsg.ACLOperationRead)))
	defer cluster.Close()
	if err := cluster.CreateTopic("small", 1, map[string]string{"max.message.bytes": "4000"}); err != nil {
		t.Fatal(err)
	}
	connect := func(user string) policies.KafkaConnection {
		return connection(t, cluster.ListenAddrs(), fmt.Sprintf(`, sasl: { mechanism: plain, username: %s, password: "${env:FOREBAY_TEST_RIGHT}" }`, user))
	}
	sink := func(user, topic, group string) policies.KafkaSink {
		k := policies.KafkaSink{KafkaConnection: connect(user), Topic: topic, Acks: policies.AcksAll, MaxBatchBytes: 1 << 20}
		if group != "" {
			k.MaxConsumerLag = &policies.ConsumerLag{Group: group, Messages: 1}
		}
		return k
	}
	source := func(user, refused, group string, topics ...string) policies.Source {
		return policies.Source{RefusedTopic: refused, Kafka: &policies.KafkaSource{KafkaConnection: connect(user), Topics: topics, Group: group}}
	}
	for _, tt := range []struct {
		name string
		got  []Trouble
		want []string
	}{
		{"sink", TrySink(t.Context(), sink("shop", "orders", "crm")), []string{}},
		{"sink of who may do all", TrySink(t.Context(), sink("admin", "orders", "none")), []string{}},
		{"no topic", TrySink(t.Context(), sink("admin", "none", "")), []string{"topic none is not there"}},
		{"small batches", TrySink(t.Context(), sink("admin", "small", "")), []string{
			"warning: topic small takes batches of 4000 bytes, and max_batch_bytes is 1048576: a record in between is buried",
		}},
		{"no rights", TrySink(t.Context(), sink("shop", "other", "mail")), []string{"no right to write to topic other", "no right to look at group mail"}},
		{"source", TrySource(t.Context(), source("shop", "", "crm", "orders", "other")), []string{}},
		{"source without rights", TrySource(t.Context(), source("shop", "other", "mail", "orders", "none")), []string{
			"no right to see topic none", "no right to be of group mail", "no right to write to topic other",
		}},
	} {
		if diff := cmp.Diff(tt.want, said(tt.got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

// A cluster that no group has come to yet makes the topic for groups when it is asked for one.
func TestTryYoungCluster(t *testing.T) {
	cluster := kfake.MustCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "orders"))
	defer cluster.Close()
	var asked atomic.Int64
	cluster.ControlKey(int16(kmsg.DescribeGroups), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		if asked.Add(1) > 6 {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.DescribeGroupsResponse)
		group := kmsg.NewDescribeGroupsResponseGroup()
		group.Group, group.ErrorCode = req.(*kmsg.DescribeGroupsRequest).Groups[0], kerr.CoordinatorNotAvailable.Code
		resp.Groups = append(resp.Groups, group)
		return resp, nil, true
	})
	source := policies.Source{Kafka: &policies.KafkaSource{KafkaConnection: connection(t, cluster.ListenAddrs(), ""), Topics: []string{"orders"}, Group: "forebay"}}
	if found := TrySource(t.Context(), source); len(found) > 0 || asked.Load() < 7 {
		t.Errorf("%+v after %d questions, want nothing once the cluster is ready", found, asked.Load())
	}
}

func TestTryWithoutABroker(t *testing.T) {
	t.Setenv("FOREBAY_TEST_WRONG", "hunter2")
	a := newAuthority(t)
	secured := kfake.MustCluster(kfake.NumBrokers(1), kfake.TLS(a.config(t)))
	defer secured.Close()
	asking := kfake.MustCluster(kfake.NumBrokers(1), kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-256", "admin", "right"))
	defer asking.Close()
	refusing := kfake.MustCluster(kfake.NumBrokers(1), kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-256", "admin", "right"))
	defer refusing.Close()
	refusing.ControlKey(int16(kmsg.SASLAuthenticate), func(req kmsg.Request) (kmsg.Response, error, bool) {
		resp := req.ResponseKind().(*kmsg.SASLAuthenticateResponse) // as a real broker has it: kfake hangs up
		resp.ErrorCode = kerr.SaslAuthenticationFailed.Code
		return resp, nil, true
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	for name, tt := range map[string]struct {
		c             policies.KafkaConnection
		message, hint string
	}{
		"nobody":       {connection(t, []string{ln.Addr().String()}, ""), " cannot be reached: ", "brokers"},
		"tls unasked":  {connection(t, secured.ListenAddrs(), ""), " cannot be reached: ", "tls"},
		"other CA":     {connection(t, secured.ListenAddrs(), ", tls: {}"), "certificate", "ca_file"},
		"sasl unasked": {connection(t, asking.ListenAddrs(), ""), " cannot be reached: ", "sasl"},
		"password": {
			connection(t, refusing.ListenAddrs(), `, sasl: { mechanism: scram-sha-256, username: admin, password: "${env:FOREBAY_TEST_WRONG}" }`),
			" refuses sasl: SASL_AUTHENTICATION_FAILED", "password",
		},
	} {
		found := TrySink(t.Context(), policies.KafkaSink{KafkaConnection: tt.c, Topic: "t"})
		if len(found) != 1 || !strings.Contains(found[0].Message, tt.message) || !strings.Contains(found[0].Hint, tt.hint) || strings.Contains(found[0].Message, "hunter2") {
			t.Errorf("%s: %+v, want %q with a hint at %s", name, found, tt.message, tt.hint)
		}
	}
}

// A broker that says nothing is waited for until the time is over.
func TestTrySilentBroker(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0") // the kernel accepts
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	found := TrySink(ctx, policies.KafkaSink{KafkaConnection: connection(t, []string{ln.Addr().String()}, ""), Topic: "t"})
	if took := time.Since(began); len(found) != 1 || took > 10*time.Second {
		t.Errorf("%+v after %s", found, took)
	}
}
