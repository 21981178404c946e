package limiter

import (
	"math"
	"strconv"
)

// Rate is in messages a second. 0 lets nothing through.
type Rate float64

// Unlimited is the rate that never makes anyone wait.
const Unlimited = Rate(math.MaxFloat64)

// String prints a rate as policies write it: 50/s, 0.5/s, unlimited.
func (r Rate) String() string {
	if r == Unlimited {
		return "unlimited"
	}
	return strconv.FormatFloat(float64(r), 'f', -1, 64) + "/s"
}

// Limit is a rate and the number of messages that may leave at once.
type Limit struct {
	Rate  Rate
	Burst int // at least 1
}
