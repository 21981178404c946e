package kafka

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"forebay/buffer"
	"forebay/drain"
	"forebay/policies"
)

// BenchmarkDeliver is attempts beside each other, against a producer that is given
// the same records one after another.
func BenchmarkDeliver(b *testing.B) {
	const each, beside = 1000, 8
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(6, topic), kfake.BlackholeProduce())
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	msgs := make([]drain.Delivery, each)
	for i := range msgs {
		msgs[i] = message(fmt.Sprintf("6fbv7vx6dkq7o2y5mkdhz%05d", i), fmt.Sprint(i%100), fmt.Sprintf(`{"customer":%d,"n":%d,"note":"%0250d"}`, i%100, i, i*7919),
			buffer.Field{Name: "Content-Type", Value: "application/json"})
	}
	k := &policies.KafkaSink{Topic: topic, Acks: policies.AcksAll, Compression: "zstd", MaxBatchBytes: 1 << 20, Timeout: 30e9}
	opts := []kgo.Opt{kgo.SeedBrokers(c.ListenAddrs()...)}
	b.Run("sink", func(b *testing.B) {
		s, err := New(policies.Sink{Kafka: k, Budget: policies.Budget{Concurrency: 64}}, opts)
		if err != nil {
			b.Fatal(err)
		}
		defer s.CloseIdleConnections()
		b.ReportAllocs()
		b.SetParallelism(beside)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if o := s.Deliver(context.Background(), msgs)[0]; o.Class != drain.Success {
					b.Errorf("%+v", o)
					return
				}
			}
		})
		b.ReportMetric(float64(b.N*each)/b.Elapsed().Seconds(), "messages/s")
	})
	b.Run("producer", func(b *testing.B) {
		client, err := kgo.NewClient(append(opts, kgo.ProducerBatchMaxBytes(1<<20), kgo.ProducerBatchCompression(kgo.ZstdCompression()))...)
		if err != nil {
			b.Fatal(err)
		}
		defer client.Close()
		recs := new(packer).pack(topic, msgs)
		b.ReportAllocs()
		var wg sync.WaitGroup
		for b.Loop() {
			for i := range recs {
				wg.Add(1)
				r := recs[i]
				client.Produce(context.Background(), &r, func(_ *kgo.Record, err error) {
					if err != nil {
						b.Error(err)
					}
					wg.Done()
				})
			}
		}
		wg.Wait()
		b.ReportMetric(float64(b.N*each)/b.Elapsed().Seconds(), "messages/s")
	})
}
