package buffer

import "time"

const (
	// crowdAt is how many callers make a crowd.
	crowdAt = 32
	// maxLinger bounds what a caller waits for others, whatever a commit takes.
	maxLinger = 5 * time.Millisecond
)

// crowd is what the committer knows of callers that append again as soon as they are
// answered. When a commit has answered many of them, those few who came meanwhile wait
// for most of the others to be back, at most as long as that commit took: taken at once,
// they would have a sync of their own, which all the others have to wait for.
type crowd struct {
	enough int       // callers in a group that waits for no others
	until  time.Time // and no group waits longer
}

// answered notes that a commit ended, how many callers it answered and how long it took.
func (c *crowd) answered(now time.Time, callers int, took time.Duration) {
	*c = crowd{}
	if callers >= crowdAt {
		*c = crowd{enough: callers * 3 / 4, until: now.Add(min(took, maxLinger))}
	}
}

// linger is how long the pending group is to wait for others; zero: it goes now.
func (e *Engine) linger(now time.Time) time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	if n := e.pending.callers; n == 0 || n >= e.crowd.enough {
		return 0
	}
	return max(0, e.crowd.until.Sub(now))
}
