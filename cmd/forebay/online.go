package main

import (
	"context"
	"fmt"
	"net/url"
	"sync"
	"time"

	"forebay/cmd/forebay/kafkaclient"
	sinkhttp "forebay/drain/sink/http"
	"forebay/policies"
)

const (
	// onlineTimeout is how long each target gets.
	onlineTimeout = 10 * time.Second
	// onlineAtOnce is how many are tried beside each other.
	onlineAtOnce = 16
)

// trial is one thing to be tried, and what of the policy it is.
type trial struct {
	kind, name string
	try        func(context.Context) []kafkaclient.Trouble
}

// tryOnline connects to what sinks and sources name, and returns what is wrong there.
func tryOnline(ctx context.Context, set *policies.Set) (mistakes, warnings policies.Errors) {
	trials := trialsOf(set)
	found := make([][]kafkaclient.Trouble, len(trials))
	slots := make(chan struct{}, onlineAtOnce)
	var wg sync.WaitGroup
	for i, t := range trials {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			ctx, cancel := context.WithTimeout(ctx, onlineTimeout)
			defer cancel()
			found[i] = t.try(ctx)
		})
	}
	wg.Wait()
	for i, t := range trials {
		for _, f := range found[i] {
			message := fmt.Sprintf("%s %s: %s", t.kind, t.name, f.Message)
			if f.Warning {
				warnings = append(warnings, set.At(t.kind, t.name, policies.Warning, f.Hint, message))
				continue
			}
			mistakes = append(mistakes, set.At(t.kind, t.name, policies.Mistake, f.Hint, message))
		}
	}
	return mistakes, warnings
}

func trialsOf(set *policies.Set) []trial {
	var trials []trial
	for _, s := range set.Sinks {
		switch {
		case s.Kafka != nil:
			trials = append(trials, trial{"sink", s.Name, func(ctx context.Context) []kafkaclient.Trouble { return kafkaclient.TrySink(ctx, *s.Kafka) }})
		case s.HTTP != nil:
			for _, u := range s.HTTP.URLs {
				trials = append(trials, trial{"sink", s.Name, func(ctx context.Context) []kafkaclient.Trouble { return tryURL(ctx, s, u) }})
			}
		}
	}
	for _, s := range set.Sources {
		trials = append(trials, trial{"source", s.Name, func(ctx context.Context) []kafkaclient.Trouble { return kafkaclient.TrySource(ctx, s) }})
	}
	return trials
}

func tryURL(ctx context.Context, s policies.Sink, u *url.URL) []kafkaclient.Trouble {
	sink, err := sinkhttp.New(s)
	if err == nil {
		defer sink.CloseIdleConnections()
		err = sink.Connect(ctx, u)
	}
	if err == nil {
		return nil
	}
	return []kafkaclient.Trouble{{Message: fmt.Sprintf("%s cannot be reached: %v", u.Redacted(), err), Hint: "is the service there, and is the URL right?"}}
}
