package buffer

import "time"

// stallAfter is how long a commit may take before nobody waits for it any more.
// So an append waits for twice as long at most: for the commit before its own,
// and for its own.
const stallAfter = 2 * time.Second

// answer is what becomes of the messages of a group. It is given once.
type answer struct {
	given chan struct{} // closed when err holds
	err   error
}

func newAnswer() *answer { return &answer{given: make(chan struct{})} }

// give ends the wait of those who have no answer yet. One goroutine at a time
// may call it: who holds mu, or who took the group out of reach of stalled.
func (a *answer) give(err error) {
	select {
	case <-a.given:
	default:
		a.err = err
		close(a.given)
	}
}

// stalled is called when a commit has taken stallAfter, by its timer. Those whose
// messages are in it are told that their outcome is open. Those who came since
// are refused, and what they brought is dropped: as the commit goes on it takes
// no more memory.
func (e *Engine) stalled() {
	e.mu.Lock()
	defer e.mu.Unlock()
	// The timer may have gone off for a commit that ended in this moment.
	if e.committing == nil || e.stall || time.Since(e.since) < stallAfter {
		return
	}
	e.stall = true
	e.metrics.stalls.Inc()
	e.log.Warn("a commit takes long: appends are refused until it ends", "for", stallAfter)
	e.committing.answer.give(ErrUndecided)
	e.refusePending(ErrStalled)
}

// refusePending answers the appends that no commit has taken yet, and forgets
// them. Changes go on waiting. The caller holds mu.
func (e *Engine) refusePending(err error) {
	g := e.pending
	e.release(g)
	e.settleOnces(g, false)
	g.answer.give(err)
	g.parts, g.onces, g.marks, g.callers, g.answer = nil, nil, nil, 0, newAnswer()
}

// release gives back the append memory of a group. The caller holds mu.
func (e *Engine) release(g *group) {
	for _, p := range g.parts {
		e.held -= p.held
		p.stream.waiting -= p.held
	}
}

// beginCommit says that g is being committed from now on. The caller holds mu.
func (e *Engine) beginCommit(g *group) {
	e.committing, e.since = g, time.Now()
	e.stallTimer.Reset(stallAfter)
}

// endCommit lets appends in again after a stall; the group is the committer's to
// answer. The caller holds mu.
func (e *Engine) endCommit(err error) {
	e.stallTimer.Stop()
	if e.stall {
		e.stall = false
		e.log.Warn("the commit that took long has ended", "took", time.Since(e.since).Round(time.Millisecond), "stored", err == nil)
	}
	e.committing = nil
}
