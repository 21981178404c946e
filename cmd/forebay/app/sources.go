package app

import (
	"context"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"forebay/buffer"
	"forebay/cmd/forebay/admin"
	"forebay/cmd/forebay/kafkaclient"
	"forebay/ingress/kafka"
	"forebay/policies"
)

// newSources makes the sources, which do not run yet.
func (a *App) newSources(engine *buffer.Engine, op *operator) *kafka.Sources {
	// What goes wrong is told by the source, once; what franz-go says of it is for those who look closely.
	log := a.log
	if !log.Enabled(context.Background(), slog.LevelDebug) {
		log = slog.New(slog.DiscardHandler)
	}
	return kafka.New(kafka.Config{
		Connect: func(c policies.KafkaConnection) ([]kgo.Opt, error) {
			return kafkaclient.Options(c, kafkaclient.ConnectTimeout, log)
		},
		Closed: op.gate.closed,
		Event: func(kind, object, detail string) {
			op.events.later(time.Now(), admin.Event{Kind: kind, Object: object, Actor: actorProgram, Detail: detail})
		},
	}, engine, a.log, a.reg)
}

// startSources runs the sources and returns what makes them read no more.
func startSources(sources *kafka.Sources, group *errgroup.Group, down *teardown) (stop func()) {
	running, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	group.Go(func() error {
		defer close(ended)
		return sources.Run(running)
	})
	down.push("sources", func(ctx context.Context) error {
		cancel()
		select {
		case <-ended:
		case <-ctx.Done(): // nothing is lost by it: they read on from their places
		}
		return nil
	})
	return cancel
}

// sources are the sources as the admin API shows them.
func sources(l *live) []admin.Source {
	var out []admin.Source
	for _, s := range l.sources.Status() {
		v := admin.Source{
			Name: s.Name, Kind: "kafka", Stream: s.Stream, Group: s.Group, Topics: s.Topics, State: string(s.State), PausedReason: string(s.Reason),
			Lag: s.Lag, StoredTotal: s.Stored, RefusedTotal: s.Refused, LastError: s.LastError, LastErrorAt: admin.Time{Time: s.LastErrorAt},
			Partitions: []admin.SourcePartition{},
		}
		for _, p := range s.Partitions {
			v.Partitions = append(v.Partitions, admin.SourcePartition{Topic: p.Topic, Partition: p.Partition, Next: p.Next, Lag: p.Lag(), Stopped: p.Stopped})
		}
		out = append(out, v)
	}
	return out
}
