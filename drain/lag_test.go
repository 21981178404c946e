package drain

import (
	"math"
	"strings"
	"testing"
	"time"

	"forebay/limiter"
	"forebay/policies"
)

func lagOf(messages int) *policies.KafkaSink {
	return &policies.KafkaSink{MaxConsumerLag: &policies.ConsumerLag{Group: "crm", Messages: messages}}
}

// Nothing is sent before the lag is known, while it is over the bound and has not
// fallen far enough since, and when it has not been known for too long.
func TestLagHolds(t *testing.T) {
	now := start()
	var l lag
	l.set(lagOf(100))
	read := func(after time.Duration, behind int64, want bool) {
		t.Helper()
		now = now.Add(after)
		l.read(now, behind)
		if got := l.holds(now); got != want {
			t.Errorf("%d behind: holds = %v, want %v", behind, got, want)
		}
	}
	if !l.holds(now) || !math.IsNaN(l.value(now)) {
		t.Error("it does not hold before anything was read")
	}
	read(0, 99, false)
	read(time.Second, 100, true)
	read(time.Second, 81, true)
	read(time.Second, 80, false)
	read(time.Second, 99, false)
	read(time.Second, 1000, true)
	read(time.Second, 0, false)
	l.failed("no coordinator")
	if now = now.Add(lagKnown - 1); l.holds(now) || l.value(now) != 0 {
		t.Error("it holds before the last reading is too old")
	}
	if now = now.Add(1); !l.holds(now) || !math.IsNaN(l.value(now)) {
		t.Error("it does not hold when the last reading is too old")
	}
	read(0, 10, false)
}

func TestLagWithoutABound(t *testing.T) {
	var l lag
	l.set(nil)
	l.set(&policies.KafkaSink{})
	if l.holds(start()) || l.asked(start()) || l.matters(start()) || l.status(start()) != nil {
		t.Errorf("%+v holds something back, or is read", l)
	}
	if _, ok := l.term(start()); ok {
		t.Error("why names a bound that is not there")
	}
}

// It is read while something is to be sent, and as long as it holds something back.
func TestLagIsReadWhileItMatters(t *testing.T) {
	now := start()
	var l lag
	l.set(lagOf(100))
	if l.matters(now) {
		t.Error("it is read though nothing is to be sent")
	}
	if !l.asked(now) || l.asked(now) {
		t.Error("the first who asks wakes who reads, and nobody else does")
	}
	if now = now.Add(time.Hour); !l.matters(now) || !l.stuck(now) {
		t.Error("it is not read any more though something waits for it")
	}
	if !l.read(now, 10) || l.read(now, 10) {
		t.Error("the reading that lets something go on says so, and no other")
	}
	l.asked(now)
	if now = now.Add(lagWanted); l.matters(now) || l.stuck(now) {
		t.Error("it is read though nothing was to be sent for long")
	}
	if !l.read(now, 100) || l.read(now, 100) {
		t.Error("the reading that holds back says so, and no other")
	}
}

func TestLagFollowsThePolicy(t *testing.T) {
	now := start()
	var l lag
	l.set(lagOf(100))
	l.read(now, 100)
	if l.set(lagOf(1000)); l.holds(now) {
		t.Error("it holds though the bound was raised")
	}
	other := lagOf(1000)
	other.MaxConsumerLag.Group = "mail"
	if l.set(other); !l.holds(now) || l.behind != 0 {
		t.Error("what was read of another group counts")
	}
	if l.set(nil); l.holds(now) {
		t.Error("it holds without a bound")
	}
}

func TestWhyNamesTheLag(t *testing.T) {
	now := start()
	at := now
	for name, tt := range map[string]struct {
		change func(l *lag)
		rate   limiter.Rate
		detail string
	}{
		"below":   {func(l *lag) { l.read(at, 7) }, limiter.Unlimited, "group crm is 7 messages behind, of at most 100"},
		"over":    {func(l *lag) { l.read(at, 123) }, 0, "group crm is 123 messages behind, of at most 100; goes on at 80"},
		"unknown": {func(l *lag) { l.asked(at) }, 0, "group crm: its lag is not known yet"},
		"unread": {func(l *lag) {
			l.asked(at)
			l.failed("not authorized: GROUP_AUTHORIZATION_FAILED")
		}, 0, "group crm: its lag cannot be read, so that it may be over 100: not authorized: GROUP_AUTHORIZATION_FAILED"},
		"old": {func(l *lag) {
			l.read(at.Add(-20*time.Second), 7)
			l.failed("timeout")
		}, limiter.Unlimited, "group crm is 7 messages behind, of at most 100; as of 20s ago: timeout"},
	} {
		var l lag
		l.set(lagOf(100))
		tt.change(&l)
		got, ok := l.term(now)
		if !ok || got.Name != KafkaLag || got.Rate != tt.rate || got.Detail != tt.detail {
			t.Errorf("%s: %+v, want rate %v and %q", name, got, tt.rate, tt.detail)
		}
		if st := l.status(now); st == nil || st.Holds != (tt.rate == 0) || strings.Contains(tt.detail, ":") != (st.Error != "") && name != "unknown" {
			t.Errorf("%s: status %+v", name, st)
		}
	}
}
