package app

import (
	"context"
	"errors"
	"fmt"
)

// teardown is the stack of what was started and how it ends. A start that
// fails half way unwinds what it had.
type teardown struct {
	steps []step
}

type step struct {
	name string
	end  func(context.Context) error
}

func (t *teardown) push(name string, end func(context.Context) error) {
	t.steps = append(t.steps, step{name, end})
}

// unwind ends everything, last started first. What has not ended by itself
// when ctx is done is cut off by its step.
func (t *teardown) unwind(ctx context.Context) error {
	var errs []error
	for len(t.steps) > 0 {
		last := t.steps[len(t.steps)-1]
		t.steps = t.steps[:len(t.steps)-1]
		if err := last.end(ctx); err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", last.name, err))
		}
	}
	return errors.Join(errs...)
}
