package bench

import (
	"math/rand/v2"
	"time"
)

// arrivals returns a function that says when the next request is due, from zero on.
// The same rate has the same arrivals in every run.
func arrivals(rate float64, poisson bool) func() time.Duration {
	if !poisson {
		n := -1.0
		return func() time.Duration {
			n++ // times its distance, so that nothing adds up
			return time.Duration(n / rate * float64(time.Second))
		}
	}
	rng, at := rand.New(rand.NewPCG(1, 2)), 0.0
	return func() time.Duration {
		due := at
		at += rng.ExpFloat64() / rate
		return time.Duration(due * float64(time.Second))
	}
}
