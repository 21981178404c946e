package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"forebay/cmd/forebay/admin"
	"forebay/limiter"
	"forebay/policies"
)

const (
	// maxReplayGroup is as many as one request may name.
	maxReplayGroup = 1000
	// progressEvery is how often a slow replay says how far it is.
	progressEvery = 5 * time.Second
)

// slowReplay brings dead letters back at a rate: a second's worth at a time, so
// that the operator log has an entry a second and not one a message.
type slowReplay struct {
	rate   limiter.Rate
	replay func(ctx context.Context, ids []string) (admin.Replayed, error)
	tell   func(done, of int) // now and then
}

// run returns what was done, also where ctx or a failure ended it.
func (s slowReplay) run(ctx context.Context, ids []string) (sum admin.Replayed, err error) {
	size := int(min(max(1, math.Ceil(float64(s.rate))), maxReplayGroup))
	var due time.Duration // of the next group, from the start on
	start, told := time.Now(), time.Now()
	sent := 0
	for group := range slices.Chunk(ids, size) {
		if err := sleep(ctx, time.Until(start.Add(due))); err != nil {
			return sum, err
		}
		// A request that is under way is not broken off: its end would be unknown.
		r, err := s.replay(context.WithoutCancel(ctx), group)
		sum.Matched, sum.Replayed = sum.Matched+r.Matched, sum.Replayed+r.Replayed
		if err != nil {
			return sum, err
		}
		sent += len(group)
		due += time.Duration(float64(len(group)) / float64(s.rate) * float64(time.Second))
		if time.Since(told) >= progressEvery {
			told = time.Now()
			s.tell(sent, len(ids))
		}
	}
	return sum, nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return ctx.Err() // a stop comes before a group that is due, too
	}
}

// replaySlowly notes all that is selected, so that what dies meanwhile is left
// alone, and brings it back at a rate. The first signal ends it between two
// groups, the second one kills.
func replaySlowly(cmd *cobra.Command, act deadAct, a admin.Act, written string) error {
	rate, err := policies.ParseRate(written)
	if err == nil && rate == 0 {
		err = errors.New("--rate 0 would bring nothing back")
	}
	if err != nil {
		return usageError{err, "write a rate such as 50/s or 3000/m"}
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	ids := a.IDs
	if len(ids) == 0 {
		if ids, err = act.client.deadIDs(ctx, a.Selection); err != nil {
			return err
		}
	}
	s := slowReplay{
		rate: rate,
		replay: func(ctx context.Context, group []string) (r admin.Replayed, err error) {
			a.IDs = group
			_, err = act.client.do(ctx, http.MethodPost, "/api/v1/dead/replay", a, &r)
			return r, err
		},
		tell: func(done, of int) {
			left := time.Duration(float64(of-done) / float64(rate) * float64(time.Second))
			fmt.Fprintf(cmd.ErrOrStderr(), "%d of %s replayed, %s to go\n", done, counted(of, "dead letter"), short(left))
		},
	}
	sum, err := s.run(ctx, ids)
	sum.Drain = a.Drain
	if said := sayReplayed(cmd, *act.out, sum); said != nil {
		return said
	}
	switch {
	case errors.Is(err, context.Canceled):
		return hinted{fmt.Errorf("stopped with %d of %s replayed", sum.Replayed, counted(len(ids), "dead letter")), "the others are dead as before; run the command again to go on"}
	case err != nil:
		return fmt.Errorf("%d of %s replayed: %w", sum.Replayed, counted(len(ids), "dead letter"), err)
	}
	return nil
}

func sayReplayed(cmd *cobra.Command, out format, sum admin.Replayed) error {
	if out == "json" {
		return printJSON(cmd.OutOrStdout(), sum)
	}
	sayDead(cmd.OutOrStdout(), sum.Matched, sum.Replayed, false, "replayed")
	return nil
}

// deadIDs are the ids of all dead letters that are selected.
func (c *client) deadIDs(ctx context.Context, s admin.Selection) (ids []string, err error) {
	for after := ""; ; {
		var page admin.Page[admin.Dead]
		if _, err := c.get(ctx, deadPath(s, after, maxReplayGroup), &page); err != nil {
			return nil, err
		}
		for _, d := range page.Items {
			ids = append(ids, d.ID)
		}
		if page.Next == nil {
			return ids, nil
		}
		after = *page.Next
	}
}
