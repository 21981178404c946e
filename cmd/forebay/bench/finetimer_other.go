//go:build !linux

package bench

import (
	"context"
	"time"
)

// fineTimer is for Linux; elsewhere the runtime's timers have to do.
type fineTimer struct{}

func newFineTimer(context.Context) *fineTimer { return nil }

func (*fineTimer) wait(time.Duration) {}

func (*fineTimer) close() {}
