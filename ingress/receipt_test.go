package ingress

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"forebay/buffer"
)

// TestEncoding holds the encoder by hand equal to the one by reflection, and
// that nothing is lost on the way back.
func TestEncoding(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := receipts().Draw(t, "receipt")
		byHand := appendReceipt(nil, &want)
		byReflection, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(byReflection), string(byHand)); diff != "" {
			t.Fatalf("receipt %+v (-reflection +hand):\n%s", want, diff)
		}
		var got Receipt
		if err := json.Unmarshal(byHand, &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("read back (-want +got):\n%s", diff)
		}
	})
}

func receipts() *rapid.Generator[Receipt] {
	drain := rapid.Custom(func(t *rapid.T) DrainReceipt {
		return DrainReceipt{
			Drain: text(t), State: state(t), Position: position(t), ETA: timestamp(t), ETAP90: timestamp(t),
			ETANote: optional(t), Attempts: rapid.IntMin(0).Draw(t, "attempts"), NextAttemptAt: timestamp(t),
			LastError: optional(t), Result: result(t), Reason: optional(t), FinishedAt: timestamp(t),
		}
	})
	return rapid.Custom(func(t *rapid.T) Receipt {
		return Receipt{
			ID: text(t), Stream: text(t), State: state(t), Position: position(t), PositionExact: rapid.Bool().Draw(t, "exact"),
			ETA: timestamp(t), ETAP90: timestamp(t), ETANote: optional(t), AcceptedAt: timestamp(t), Deadline: timestamp(t),
			Drains: rapid.SliceOfN(drain, 0, 3).Draw(t, "drains"),
		}
	})
}

func text(t *rapid.T) string { return rapid.String().Draw(t, "text") }

func state(t *rapid.T) buffer.State {
	return rapid.SampledFrom([]buffer.State{buffer.Queued, buffer.Dead}).Draw(t, "state")
}

func optional(t *rapid.T) *string { return rapid.Ptr(rapid.String(), true).Draw(t, "optional") }

func position(t *rapid.T) *uint64 { return rapid.Ptr(rapid.Uint64(), true).Draw(t, "position") }

func timestamp(t *rapid.T) Timestamp {
	ms := rapid.Int64Range(0, time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()).Draw(t, "ms")
	if ms == 0 {
		return Timestamp{}
	}
	return Timestamp{time.UnixMilli(ms).UTC()}
}

func result(t *rapid.T) *Result {
	if rapid.Bool().Draw(t, "no result") {
		return nil
	}
	r := &Result{Status: rapid.IntRange(100, 599).Draw(t, "status"), Body: optional(t)}
	if r.Body != nil {
		r.Headers, r.Truncated = http.Header{"Content-Type": {text(t)}}, true
	}
	return r
}

func TestTimestamp(t *testing.T) {
	cst := time.FixedZone("CST", 8*3600)
	tests := []struct {
		at   time.Time
		want string
	}{
		{time.Time{}, `null`},
		{time.Date(2027, 11, 11, 8, 0, 0, 5_999_999, cst), `"2027-11-11T00:00:00.005Z"`},
	}
	for _, tt := range tests {
		got, err := json.Marshal(Timestamp{tt.at})
		if err != nil || string(got) != tt.want {
			t.Errorf("Marshal(%v) = %s, %v, want %s", tt.at, got, err, tt.want)
		}
	}
}

func TestSummary(t *testing.T) {
	now := time.Date(2027, 11, 11, 0, 0, 0, 0, time.UTC)
	eta := func(drain string, now, due time.Time, _ uint64) (time.Time, time.Time, string) {
		if due.After(now.Add(time.Second)) {
			return due, due, ""
		}
		switch drain {
		case "never":
			return time.Time{}, time.Time{}, ""
		case "soon":
			return now.Add(time.Second), now, "" // a p90 before its eta is a mistake elsewhere
		}
		return now.Add(time.Hour), now.Add(2 * time.Hour), ""
	}
	status := func(drains ...buffer.DrainStatus) *buffer.Status { return &buffer.Status{Drains: drains} }
	tests := []struct {
		name    string
		status  *buffer.Status
		ahead   uint64 // 99: null
		eta     time.Duration
		p90     time.Duration
		note    string
		state   buffer.State
		retryIn int
	}{
		{"latest of two", status(buffer.DrainStatus{Drain: "soon", State: buffer.Queued, Ahead: 1}, buffer.DrainStatus{Drain: "late", State: buffer.Queued, Ahead: 2}), 2, time.Hour, 2 * time.Hour, "", buffer.Queued, 300},
		{"none in sight is latest", status(buffer.DrainStatus{Drain: "never", State: buffer.Queued, Ahead: 1}, buffer.DrainStatus{Drain: "late", State: buffer.Queued, Ahead: 2}), 1, 0, 0, "no rate is in sight", buffer.Queued, 60},
		{"finished ones do not count", status(buffer.DrainStatus{Drain: "late", State: buffer.Delivered}, buffer.DrainStatus{Drain: "soon", State: buffer.Queued, Ahead: 3}), 3, time.Second, time.Second, "", buffer.Queued, 1},
		{"due after its turn", status(buffer.DrainStatus{Drain: "soon", State: buffer.Scheduled, Due: now.Add(time.Minute)}), 0, time.Minute, time.Minute, "", buffer.Scheduled, 60},
		{"due before its turn", status(buffer.DrainStatus{Drain: "soon", State: buffer.Scheduled, Due: now}), 0, time.Second, time.Second, "", buffer.Scheduled, 1},
		{"final", status(buffer.DrainStatus{Drain: "soon", State: buffer.Expired, At: now}), 99, 0, 0, "", buffer.Expired, 1},
		{"no drain", status(), 99, 0, 0, "no drain reads this stream yet", buffer.Queued, 60},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := newReceipt("id", tt.status, now, &outlook{eta, func(string) time.Duration { return 0 }})
			ahead, note := uint64(99), ""
			if got.Position != nil {
				ahead = *got.Position
			}
			if got.ETANote != nil {
				note = *got.ETANote
			}
			if ahead != tt.ahead || note != tt.note || got.State != tt.state {
				t.Errorf("position %d, note %q, state %s; want %d, %q, %s", ahead, note, got.State, tt.ahead, tt.note, tt.state)
			}
			if want := at(now, tt.eta); !got.ETA.Equal(want) {
				t.Errorf("eta %v, want %v", got.ETA, want)
			}
			if want := at(now, tt.p90); !got.ETAP90.Equal(want) {
				t.Errorf("eta_p90 %v, want %v", got.ETAP90, want)
			}
			if retryIn := got.retryAfter(now); retryIn != tt.retryIn {
				t.Errorf("retryAfter = %d, want %d", retryIn, tt.retryIn)
			}
		})
	}
}

func at(now time.Time, d time.Duration) time.Time {
	if d == 0 {
		return time.Time{}
	}
	return now.Add(d)
}

func TestRetrySeconds(t *testing.T) {
	now := time.Now()
	for d, want := range map[time.Duration]int{
		-time.Hour: 1, 0: 1, time.Millisecond: 1, time.Second: 1, 1001 * time.Millisecond: 2, 5 * time.Minute: 300, time.Hour: 300,
	} {
		if got := retrySeconds(now.Add(d), now); got != want {
			t.Errorf("retrySeconds(now + %v) = %d, want %d", d, got, want)
		}
	}
}

// TestDeadline: a receipt tells the earliest of its drains' deadlines.
func TestDeadline(t *testing.T) {
	within := map[string]time.Duration{"mail": time.Hour, "sms": time.Minute, "archive": 0}
	o := &outlook{tenPerSecond, func(drain string) time.Duration { return within[drain] }}
	at := time.Date(2027, 11, 11, 0, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		drains []string
		want   time.Time
	}{
		{[]string{"archive"}, time.Time{}},
		{[]string{"mail"}, at.Add(time.Hour)},
		{[]string{"mail", "archive", "sms"}, at.Add(time.Minute)},
	} {
		st := buffer.Status{AcceptedAt: at}
		for _, d := range tt.drains {
			st.Drains = append(st.Drains, buffer.DrainStatus{Drain: d, State: buffer.Queued})
		}
		if got := newReceipt("id", &st, at, o); !got.Deadline.Equal(tt.want) {
			t.Errorf("of %v the deadline is %v, want %v", tt.drains, got.Deadline, tt.want)
		}
	}
}
