package ingresstest

import (
	"strings"
	"testing"
)

func TestDisorder(t *testing.T) {
	x, y := Request{Key: "k", ID: "x", Sent: 1, Answered: 10, Taken: true}, Request{Key: "k", ID: "y", Sent: 20, Answered: 90, Taken: true}
	drained := func(id string, begin, end int64) Attempt {
		return Attempt{Key: "k", ID: id, Begin: begin, End: end, Success: true}
	}
	live := func(id string, begin, end int64) Attempt {
		a := drained(id, begin, end)
		a.Live = true
		return a
	}
	failed := func(a Attempt) Attempt { a.Success = false; return a }
	cut := func(a Attempt) Attempt { a.Cut = true; return a }
	concurrent := y
	concurrent.Sent = 5
	untaken := x
	untaken.Taken = false
	tests := []struct {
		name     string
		requests []Request
		attempts []Attempt
		want     string // a part of what is wrong; empty: nothing
	}{
		{"in order, live", []Request{x, y}, []Attempt{live("x", 2, 9), live("y", 21, 30)}, ""},
		{"in order, stored", []Request{x, y}, []Attempt{drained("x", 25, 30), drained("y", 31, 40)}, ""},
		{"repeated later", []Request{x, y}, []Attempt{drained("x", 15, 18), drained("y", 31, 40), drained("x", 50, 55)}, ""},
		{"not carried out yet", []Request{x}, []Attempt{failed(drained("x", 11, 12))}, ""},
		{"passed by before it was carried out", []Request{x, y}, []Attempt{failed(drained("x", 11, 12)), live("y", 21, 30)}, "request y was sent"},
		{"refused", []Request{untaken}, nil, ""},
		{"passed by", []Request{x, y}, []Attempt{live("y", 21, 30), drained("x", 40, 50)}, "request y was sent"},
		{"passed by between attempts", []Request{x, y}, []Attempt{failed(drained("x", 11, 12)), live("y", 21, 30), drained("x", 40, 50)}, "request y was sent"},
		{"passed by one that failed", []Request{x, y}, []Attempt{failed(live("y", 21, 30)), drained("x", 40, 50), live("y", 60, 70)}, "request y was sent"},
		{"at the same time", []Request{x, concurrent}, []Attempt{live("y", 6, 8), drained("x", 40, 50)}, ""},
		{"two live at once", []Request{x, concurrent}, []Attempt{live("x", 2, 8), live("y", 6, 9)}, ""},
		{"out of the buffer beside a live one", []Request{x, concurrent}, []Attempt{live("y", 6, 60), drained("x", 40, 50)}, "the sink had request y"},
		{"live beside one out of the buffer", []Request{x, concurrent}, []Attempt{drained("x", 6, 60), live("y", 40, 50)}, "the sink had request x"},
		{"two out of the buffer", []Request{x, concurrent}, []Attempt{drained("x", 6, 60), drained("y", 40, 50)}, "the sink had request x"},
		{"beside a live one that ended not last", []Request{x, concurrent}, []Attempt{live("y", 3, 60), live("z", 4, 7), drained("x", 40, 50)}, "the sink had request y"},
		{"beside one that was given up", []Request{x, concurrent}, []Attempt{cut(live("y", 6, 60)), drained("x", 40, 50), live("y", 70, 80)}, ""},
		{"other keys", []Request{x, {Key: "other", ID: "y", Sent: 20, Answered: 90, Taken: true}}, []Attempt{{Key: "other", ID: "y", Begin: 21, End: 60, Success: true}, drained("x", 40, 50)}, ""},
	}
	for _, tt := range tests {
		h := &History{requests: tt.requests, attempts: tt.attempts}
		got := strings.Join(h.Disorder(), "; ")
		if (tt.want == "") != (got == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%s: Disorder() = %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestHistory(t *testing.T) {
	h := &History{}
	sent := h.Now()
	n := h.begin(Attempt{Key: "k", ID: "x", Live: true})
	h.succeed(n)
	h.CutOff()
	h.end(n, false, false)
	h.answered(Request{Key: "k", ID: "x", Sent: sent, Taken: true, Stored: true})
	if a := h.attempts[0]; !a.Success || !a.Cut || a.Begin >= a.End || h.requests[0].Answered <= a.End {
		t.Errorf("attempt %+v of request %+v", a, h.requests[0])
	}
	h.answered(Request{Key: "k", ID: "y", Taken: true})
	if got := h.Undelivered(); got != 1 {
		t.Errorf("Undelivered() = %d, want 1", got)
	}
	if got, want := h.Counts(), (Counts{Requests: 2, Taken: 2, Stored: 1, Cut: 1}); got != want {
		t.Errorf("Counts() = %+v, want %+v", got, want)
	}
}
