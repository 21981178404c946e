package ingress

import (
	"testing"
	"time"
)

func TestPreferredWait(t *testing.T) {
	tests := []struct {
		values []string
		want   time.Duration
	}{
		{nil, 0},
		{[]string{"wait=5"}, 5 * time.Second},
		{[]string{"Wait = 5"}, 5 * time.Second},
		{[]string{`wait="5"`}, 5 * time.Second},
		{[]string{"respond-async, wait=5; foo=bar, handling=lenient"}, 5 * time.Second},
		{[]string{"respond-async", "return=minimal, wait=7"}, 7 * time.Second},
		{[]string{`foo="a, wait=1", wait=2`}, 2 * time.Second},
		{[]string{`foo="a\", wait=1", wait=2`}, 2 * time.Second},
		{[]string{"wait=1, wait=9"}, time.Second},
		{[]string{"wait=, wait=9"}, 9 * time.Second},
		{[]string{"wait=0, wait=9"}, 0},
		{[]string{"wait=-5"}, 0},
		{[]string{"wait=+5"}, 0},
		{[]string{"wait=1.5"}, 0},
		{[]string{"wait"}, 0},
		{[]string{"waits=5"}, 0},
		{[]string{"wait=99999999999999999999999"}, maxWaitAsked},
		{[]string{"wait=4294967295"}, maxWaitAsked},
		{[]string{"wait=٥"}, 0},
		{[]string{`,,;=,"`}, 0},
	}
	for _, tt := range tests {
		if got := preferredWait(tt.values); got != tt.want {
			t.Errorf("preferredWait(%q) = %v, want %v", tt.values, got, tt.want)
		}
	}
}

func TestPrefersAsync(t *testing.T) {
	tests := []struct {
		values []string
		want   bool
	}{
		{nil, false},
		{[]string{"respond-async"}, true},
		{[]string{"wait=5", " Respond-Async ; x=y"}, true},
		{[]string{`wait=5, respond-async=""`}, true},
		{[]string{"respond-async=no"}, false},
		{[]string{`a="respond-async"`}, false},
		{[]string{`a="b, respond-async"`}, false},
		{[]string{"respond-asynchronously, async"}, false},
	}
	for _, tt := range tests {
		if got := prefersAsync(tt.values); got != tt.want {
			t.Errorf("prefersAsync(%q) = %v, want %v", tt.values, got, tt.want)
		}
	}
}

func FuzzPreferredWait(f *testing.F) {
	for _, s := range []string{"wait=5", `a="b\", c", wait="6";x`, "wait=,wait", `"`, `\`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := preferredWait([]string{s})
		if got < 0 || got > maxWaitAsked || got%time.Second != 0 {
			t.Errorf("preferredWait(%q) = %v", s, got)
		}
		if after := preferredWait([]string{"wait=3, " + s}); after != 3*time.Second {
			t.Errorf("preferredWait(%q) = %v, want the first, 3 s", "wait=3, "+s, after)
		}
	})
}
