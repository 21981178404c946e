package main_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"
)

// A verdict is what the log of one drain's sink says of a load.
type verdict struct {
	seen       map[string]bool // ids that came whole, delivered or not
	delivered  int             // messages that the sink took
	cancelled  int             // of them, those that somebody asked to cancel
	lost       int
	duplicates int
	faults     []string
}

func (v *verdict) fault(format string, args ...any) {
	v.faults = append(v.faults, fmt.Sprintf(format, args...))
}

// verdict compares what was promised with what arrived: nothing lost, nothing
// invented, one id a body, each key in its order, and nothing twice but around a
// kill.
func (l *load) verdict(drain string, log []arrival, crashes []crash) verdict {
	l.mu.Lock()
	defer l.mu.Unlock()
	v := verdict{seen: make(map[string]bool)}
	last := make(map[*order]arrival) // of those that the sink took
	ids := make(map[*order]string)
	turn := make(map[string]int) // by key, the place after the last that was taken
	for _, a := range log {
		if !a.Whole {
			continue // cut off by a kill; the envelope counts it, nobody got it
		}
		o := l.posted[a.Sum]
		if o == nil {
			v.fault("%s: a body (Forebay-Id %s) that nobody posted", drain, a.ID)
			continue
		}
		v.seen[a.ID] = true
		if o.id != "" && a.ID != o.id {
			v.fault("%s: delivered as %s, but its receipt is %s", drain, a.ID, o.id)
		} else if ids[o] != "" && a.ID != ids[o] {
			v.fault("%s: one body came as %s and as %s", drain, ids[o], a.ID)
		}
		ids[o] = a.ID
		if told, is := o.cancelled[drain]; is && a.At.After(told) {
			v.fault("%s: %s came at %v and was cancelled at %v", drain, a.ID, a.At, told)
		}
		if a.Status != http.StatusOK {
			continue
		}
		before, again := last[o]
		last[o] = a
		switch {
		case !again && o.n < turn[o.key]:
			v.fault("%s: message %d of %s came when it was the turn of %d", drain, o.n, o.key, turn[o.key])
		case !again:
			turn[o.key] = o.n + 1
		case !aroundCrash(crashes, before.At, a.At):
			v.fault("%s: %s came at %v and again at %v, with no crash between them that explains it", drain, a.ID, before.At, a.At)
			fallthrough
		default:
			v.duplicates++
		}
	}
	for _, o := range l.posted {
		_, arrived := last[o]
		switch {
		case arrived:
			v.delivered++
			if o.cancelAsked {
				v.cancelled++
			}
		case o.id != "" && !o.mayMiss(drain):
			v.lost++
			v.fault("%s: lost: %s was answered 202 and never reached the sink", drain, o.id)
		}
	}
	return v
}

// wrong compares the audit with the log: everything ended, and as the sink saw it.
// accepted is how many messages anybody knows of.
func (v *verdict) wrong(a account, accepted int) string {
	// A kill may take the record of a delivery with it; who cancels the message
	// then finds it waiting.
	unrecorded := v.delivered - a.Delivered
	if a.Accepted != accepted || a.Delivered+a.Cancelled != a.Accepted || a.Buffered != 0 || unrecorded < 0 || unrecorded > v.cancelled {
		return fmt.Sprintf("audit = %+v, but %d messages are known, the sink took %d, and %d of those were to be cancelled",
			a, accepted, v.delivered, v.cancelled)
	}
	return ""
}

// A crash began when the program was to end, and it had ended by then.
type crash struct{ began, ended time.Time }

// aroundCrash tells whether a crash fell so soon after the first arrival that the
// delivery may not have been on record: 100 ms, and time for the commit. What came
// while the program was ending is off record, too.
func aroundCrash(crashes []crash, first, again time.Time) bool {
	const late, skew = time.Second, 50 * time.Millisecond
	for _, c := range crashes {
		began, ended := c.began.Round(0), c.ended.Round(0)
		if ended.After(first.Add(-skew)) && began.Before(first.Add(late)) && began.Before(again.Add(skew)) {
			return true
		}
	}
	return false
}

// What each fault looks like, one at a time, in a log that is sound without it.
func TestVerdict(t *testing.T) {
	at := time.Unix(1_800_000_000, 0)
	come := func(body byte, id string, second int, status int) arrival {
		return arrival{At: at.Add(time.Duration(second) * time.Second), ID: id, Sum: sum{body}, Whole: true, Status: status}
	}
	kill := []crash{{at.Add(2100 * time.Millisecond), at.Add(2200 * time.Millisecond)}}
	sound := []arrival{come(1, "one", 1, 200), come(2, "two", 2, 200), come(2, "two", 3, 200), come(3, "three", 4, 500), come(3, "three", 5, 200)}
	tests := []struct {
		name string
		log  []arrival
		want verdict
		bad  int // faults
	}{
		{"sound", sound, verdict{delivered: 3, duplicates: 1}, 0},
		{"lost", sound[1:], verdict{delivered: 2, duplicates: 1, lost: 1}, 1},
		{"tried and lost", sound[:4], verdict{delivered: 2, duplicates: 1}, 0}, // three was never answered
		{"invented", append([]arrival{come(9, "nine", 0, 200)}, sound...), verdict{delivered: 3, duplicates: 1}, 1},
		{"twice for no reason", append([]arrival{come(1, "one", 0, 200)}, sound...), verdict{delivered: 3, duplicates: 2}, 1},
		{"another id", append([]arrival{come(1, "uno", 0, 500)}, sound...), verdict{delivered: 3, duplicates: 1}, 2},
		{"one body as two", append(sound[:5:5], come(3, "drei", 6, 500)), verdict{delivered: 3, duplicates: 1}, 1},
		{"out of turn", []arrival{come(2, "two", 1, 200), come(1, "one", 2, 200)}, verdict{delivered: 2}, 1},
		{"cancelled and delivered", append(sound[:5:5], come(4, "four", 6, 200)), verdict{delivered: 4, duplicates: 1, cancelled: 1}, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := &load{posted: map[sum]*order{
				{1}: {key: "a", n: 0, id: "one"},
				{2}: {key: "a", n: 1, id: "two"},
				{3}: {key: "b"},
				{4}: {key: "b", n: 1, id: "four", cancelAsked: true, cancelTold: true, cancelled: map[string]time.Time{"to-shop": at}},
			}}
			got := l.verdict("to-shop", tt.log, kill)
			if got.delivered != tt.want.delivered || got.cancelled != tt.want.cancelled || got.lost != tt.want.lost || got.duplicates != tt.want.duplicates || len(got.faults) != tt.bad {
				t.Errorf("verdict = %+v, want %+v and %d faults", got, tt.want, tt.bad)
			}
		})
	}
	if aroundCrash([]crash{{at, at}}, at.Add(time.Second), at.Add(2*time.Second)) {
		t.Error("a crash before the first arrival explains nothing")
	}
	if aroundCrash([]crash{{at.Add(5 * time.Second), at.Add(5 * time.Second)}}, at, at.Add(6*time.Second)) {
		t.Error("a crash five seconds after the first arrival explains nothing")
	}
	if !aroundCrash([]crash{{at, at.Add(time.Second)}}, at.Add(time.Second), at.Add(2*time.Second)) {
		t.Error("what came while the program was ending is not on record")
	}
}

func TestVerdictOfAccount(t *testing.T) {
	v := verdict{delivered: 8, cancelled: 1}
	tests := []struct {
		name string
		of   account
		ok   bool
	}{
		{"sound", account{Accepted: 10, Delivered: 8, Cancelled: 2}, true},
		{"a delivery off record, then cancelled", account{Accepted: 10, Delivered: 7, Cancelled: 3}, true},
		{"two off record", account{Accepted: 10, Delivered: 6, Cancelled: 4}, false},
		{"delivered to nobody", account{Accepted: 10, Delivered: 9, Cancelled: 1}, false},
		{"stored twice", account{Accepted: 11, Delivered: 8, Cancelled: 3}, false},
		{"dead", account{Accepted: 10, Delivered: 8, Cancelled: 1, Dead: 1}, false},
		{"buffered", account{Accepted: 10, Delivered: 8, Cancelled: 1, Buffered: 1}, false},
	}
	for _, tt := range tests {
		if got := v.wrong(tt.of, 10); (got == "") != tt.ok {
			t.Errorf("%s: wrong = %q, want ok %v", tt.name, got, tt.ok)
		}
	}
}
