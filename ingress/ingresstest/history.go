package ingresstest

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
)

// A Request is what one caller asked for, however often it was sent.
type Request struct {
	Key, ID string
	// Sent is before the first time it was sent, Answered after the last answer.
	Sent, Answered int64
	// Taken says that it was answered with success: it was carried out, or will be.
	Taken bool
	// Stored says that it was answered 202.
	Stored bool
}

// An Attempt is a request as the sink saw it.
type Attempt struct {
	Key, ID string
	Live    bool // it came from the caller, not out of the buffer
	// Begin and End are while the sink has it.
	Begin, End int64
	Success    bool
	// Cut says that the other side gave up on it: it may have begun something else before
	// the sink took note.
	Cut bool
}

// History is what callers and sink saw, in one order: the numbers count events, and
// what happened before something else has the smaller one. It is safe for concurrent
// use.
type History struct {
	mu       sync.Mutex
	clock    int64
	requests []Request
	attempts []Attempt
	open     map[int]bool // attempts that have not ended
}

// Now is the number of an event of its own.
func (h *History) Now() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.tick()
}

func (h *History) tick() int64 {
	h.clock++
	return h.clock
}

// answered adds a request whose last answer has come.
func (h *History) answered(r Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r.Answered = h.tick()
	h.requests = append(h.requests, r)
}

// begin adds an attempt, and returns which it is.
func (h *History) begin(a Attempt) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	a.Begin = h.tick()
	h.attempts = append(h.attempts, a)
	if h.open == nil {
		h.open = map[int]bool{}
	}
	n := len(h.attempts) - 1
	h.open[n] = true
	return n
}

// succeed says that the sink has carried out an attempt that may go on.
func (h *History) succeed(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.attempts[n].Success, h.attempts[n].End = true, h.tick()
}

// end ends an attempt; it comes before the answer is written.
func (h *History) end(n int, success, cut bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	a := &h.attempts[n]
	if !a.Success {
		a.Success, a.End = success, h.tick()
	}
	a.Cut = a.Cut || cut
	delete(h.open, n)
}

// CutOff says that the other side of all that is under way is gone, by a crash.
func (h *History) CutOff() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for n := range h.open {
		h.attempts[n].Cut = true
	}
}

// Undelivered counts the requests that were taken and that the sink has not carried
// out.
func (h *History) Undelivered() (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	done := map[string]bool{}
	for _, a := range h.attempts {
		done[a.ID] = done[a.ID] || a.Success
	}
	for _, r := range h.requests {
		if r.Taken && !done[r.ID] {
			n++
		}
	}
	return n
}

// Counts says how much a run has seen.
type Counts struct{ Requests, Taken, Stored, Live, Drained, Cut int }

// Counts counts.
func (h *History) Counts() (c Counts) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c.Requests = len(h.requests)
	for _, r := range h.requests {
		if r.Taken {
			c.Taken++
		}
		if r.Stored {
			c.Stored++
		}
	}
	for _, a := range h.attempts {
		switch {
		case a.Cut:
			c.Cut++
		case a.Live:
			c.Live++
		default:
			c.Drained++
		}
	}
	return c
}

// Disorder returns what was out of order so far, the first of its kind for each key:
//
//   - A request that was taken before another of its key was sent is carried out before
//     that one comes to the sink: nothing passes by what is stored of its key.
//   - Of one key nothing comes out of the buffer while the sink has a live request, nor
//     a live one while it has something out of the buffer, nor two out of the buffer:
//     what is stored waits for the live requests that were there before it.
func (h *History) Disorder() (wrong []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	requests, attempts := map[string][]Request{}, map[string][]Attempt{}
	for _, r := range h.requests {
		requests[r.Key] = append(requests[r.Key], r)
	}
	for _, a := range h.attempts {
		attempts[a.Key] = append(attempts[a.Key], a)
	}
	for key, list := range requests {
		for _, what := range []string{unorderly(list, attempts[key]), overlap(attempts[key])} {
			if what != "" {
				wrong = append(wrong, "key "+key+": "+what)
			}
		}
	}
	slices.Sort(wrong)
	return wrong
}

// unorderly finds a request that was not carried out when a later one came.
func unorderly(requests []Request, attempts []Attempt) string {
	came, done := map[string]int64{}, map[string]int64{}
	for _, a := range attempts { // in the order of their beginnings
		if came[a.ID] == 0 {
			came[a.ID] = a.Begin
		}
		if a.Success && (done[a.ID] == 0 || a.End < done[a.ID]) {
			done[a.ID] = a.End
		}
	}
	for _, x := range requests {
		if !x.Taken {
			continue
		}
		for _, y := range requests {
			if y.Sent > x.Answered && came[y.ID] != 0 && (done[x.ID] == 0 || came[y.ID] < done[x.ID]) {
				return fmt.Sprintf("request %s was answered at %d and carried out at %d (0: not yet); request %s was sent at %d and came to the sink at %d",
					x.ID, x.Answered, done[x.ID], y.ID, y.Sent, came[y.ID])
			}
		}
	}
	return ""
}

// overlap finds two attempts that the sink has at once, unless both are live.
func overlap(attempts []Attempt) string {
	list := slices.DeleteFunc(slices.Clone(attempts), func(a Attempt) bool { return a.Cut || a.End == 0 })
	slices.SortFunc(list, func(a, b Attempt) int { return cmp.Compare(a.Begin, b.Begin) })
	var live, drained Attempt // of those that began, the one that ends last
	for _, a := range list {
		last := drained
		if !a.Live && live.End > drained.End {
			last = live
		}
		if last.End > a.Begin && last.ID != a.ID { // its own again: the other side gave up on it
			return fmt.Sprintf("the sink had request %s (live: %v) from %d to %d when request %s (live: %v) came at %d",
				last.ID, last.Live, last.Begin, last.End, a.ID, a.Live, a.Begin)
		}
		switch {
		case a.Live && a.End > live.End:
			live = a
		case !a.Live && a.End > drained.End:
			drained = a
		}
	}
	return ""
}
