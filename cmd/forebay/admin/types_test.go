package admin

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"forebay/limiter"
	"forebay/policies"
)

// TestShapes pins the JSON that dashboards and scripts read.
func TestShapes(t *testing.T) {
	at := Time{time.Date(2026, 1, 2, 3, 4, 5, 6_000_000, time.FixedZone("", 3600))}
	tests := []struct {
		name string
		v    any
		want string
	}{
		{
			"stream",
			Stream{Name: "s", State: "open", Messages: 1, Bytes: 2, CapacityBytes: 5, OldestAcceptedAt: at, AcceptedTotal: 3},
			`{"name":"s","state":"open","messages":1,"bytes":2,"capacity_bytes":5,"full_at":null,"oldest_accepted_at":"2026-01-02T02:04:05.006Z","accepted_total":3,"closed":null}`,
		},
		{
			"stream without a bound of its own",
			Stream{Name: "s", State: "open"},
			`{"name":"s","state":"open","messages":0,"bytes":0,"capacity_bytes":"unlimited","full_at":null,"oldest_accepted_at":null,"accepted_total":0,"closed":null}`,
		},
		{
			"drain",
			Drain{Name: "d", Stream: "s", Sink: "k", State: "running", PermittedRate: Rate(limiter.Unlimited), ActualRate: 1.5, Binding: "unlimited"},
			`{"name":"d","stream":"s","sink":"k","state":"running","pending":0,"in_flight":0,"scheduled":0,"dead":0,"delivered_total":0,` +
				`"permitted_rate":"unlimited","actual_rate":1.5,"binding":"unlimited","empty_at":null,"oldest_accepted_at":null,"override":null,"paused":null,"next_change":null}`,
		},
		{"change", Change{At: at, Rate: 100, Because: "night"}, `{"at":"2026-01-02T02:04:05.006Z","rate":100,"because":"night"}`},
		{
			"account",
			Account{Stream: "s", Drain: "d", Accepted: 6, Delivered: 1, Expired: 1, Cancelled: 1, Dead: 1, Buffered: 1, Imbalance: 1},
			`{"stream":"s","drain":"d","accepted":6,"delivered":1,"expired":1,"cancelled":1,"dead":1,"buffered":1,"imbalance":1}`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := json.Marshal(tt.v)
			if err != nil || string(got) != tt.want {
				t.Errorf("Marshal(%+v) = %s, %v\nwant %s", tt.v, got, err, tt.want)
			}
		})
	}
}

func TestRateText(t *testing.T) {
	for rate, want := range map[Rate]string{
		0: "0/s", 5: "5/s", 0.5: "0.5/s", 1234.56: "1235/s", 120000: "120000/s", 99.95: "99.95/s", 1.0 / 3: "0.333/s",
		1.0 / 60: "1/m", 0.01: "0.6/m", 1.0 / 3600: "1/h", 20.0 / 3600: "0.333/m", Rate(limiter.Unlimited): "unlimited",
	} {
		got := rate.String()
		if got != want {
			t.Errorf("Rate(%v) = %q, want %q", float64(rate), got, want)
		}
		if _, err := policies.ParseRate(got); err != nil {
			t.Errorf("Rate(%v) = %q, which no policy could have: %v", float64(rate), got, err)
		}
	}
}

func TestRateRoundTrip(t *testing.T) {
	for _, want := range []Rate{0, 1.0 / 3600, 0.01 / 3600, 1.0 / 3, 20000.5, 1e9, Rate(limiter.Unlimited)} {
		raw, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		got := Rate(-1)
		if err := json.Unmarshal(raw, &got); err != nil || got != want {
			t.Errorf("%v through JSON, %s, is %v, %v", float64(want), raw, float64(got), err)
		}
	}
	for _, bad := range []string{"-1", "1e-9", "1e10", `"5 per second"`, "true", "[]"} {
		if err := json.Unmarshal([]byte(bad), new(Rate)); err == nil {
			t.Errorf("%s is taken for a rate", bad)
		}
	}
}

func TestBoundRoundTrip(t *testing.T) {
	for text, want := range map[string]Bound{`"unlimited"`: 0, "1024": 1024} {
		got := Bound(7)
		if err := json.Unmarshal([]byte(text), &got); err != nil || got != want {
			t.Errorf("Unmarshal(%s) = %d, %v, want %d", text, got, err, want)
		}
		if raw, err := json.Marshal(got); err != nil || string(raw) != text {
			t.Errorf("Marshal(%d) = %s, %v, want %s", got, raw, err, text)
		}
	}
	if err := json.Unmarshal([]byte(`"much"`), new(Bound)); err == nil {
		t.Error("a word that is no number is taken")
	}
}

func TestRoundTrip(t *testing.T) {
	want := Drain{Name: "d", PermittedRate: 0.5, EmptyAt: Time{time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}, Override: &Override{Rate: Rate(limiter.Unlimited)}}
	raw, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got Drain
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("drain through JSON (-want +got):\n%s", diff)
	}
}
