package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// refusals has a bad policy refused in the three ways there are, and returns the
// places, LINE:COLUMN, of the mistakes in the file that each reported. The good
// policy, which runs meanwhile, has to run on.
func refusals(t *testing.T, s *site, bad, file string) map[string][]string {
	t.Helper()
	told := make(map[string][]string)
	srv := s.start()
	hash := policyHash.FindString(metrics(t, srv))
	s.setPolicy(bad)
	for _, m := range refusal(t, reload(t, srv)) {
		if filepath.Base(m.File) == file && m.Message != "" {
			told["reload"] = append(told["reload"], fmt.Sprintf("%d:%d", m.Line, m.Column))
		}
	}
	if now := policyHash.FindString(metrics(t, srv)); hash == "" || now != hash {
		t.Errorf("after the refused reload the policy is %q, want %q as before", now, hash)
	}
	postAll(t, srv.public, realOrders(t)[:1], 1)
	srv.stop()

	_, stderr, code := command(t, "check", s.policyFile())
	if code != 1 {
		t.Errorf("forebay check: exit %d, want 1", code)
	}
	told["check"] = placesIn(stderr, file)
	start := s.launch()
	if code := start.exit(20 * time.Second); code != 1 {
		t.Errorf("forebay serve: exit %d, want 1", code)
	}
	told["start"] = placesIn(start.stderr.tail(keptLines), file)
	for _, places := range told {
		slices.Sort(places)
	}
	return told
}

func placesIn(stderr, file string) []string {
	var places []string
	for _, m := range mistakeLine.FindAllStringSubmatch(stderr, -1) {
		if filepath.Base(m[1]) == file {
			places = append(places, m[2]+":"+m[3])
		}
	}
	return places
}

// A policy with twenty mistakes is told all twenty, however it is read, and the
// one that runs runs on.
func TestTwentyMistakes(t *testing.T) {
	t.Parallel()
	bad, err := os.ReadFile(filepath.Join("..", "..", "policies", "testdata", "bad-twenty.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	told := refusals(t, newSite(t, orderPolicy("http://127.0.0.1:1", "0")), string(bad), "policy.yaml")
	if n := len(told["check"]); n < 20 {
		t.Errorf("%d mistakes told, want 20: %v", n, told["check"])
	}
	for _, way := range []string{"start", "reload"} {
		if diff := cmp.Diff(told["check"], told[way]); diff != "" {
			t.Errorf("check and %s tell of other mistakes (-check +%s):\n%s", way, way, diff)
		}
	}
}

// A date that is none is told with the calendar's own name and line.
func TestBadDateInCalendar(t *testing.T) {
	t.Parallel()
	good := orderPolicy("http://127.0.0.1:1", "0")
	s := newSite(t, good)
	s.write(filepath.Join("policies", "holidays.txt"), "# days on which nothing is sent\n2027-01-01\n2027-02-30\n2027-12-25\n")
	bad := good + "time_intervals:\n  - name: holidays\n    intervals: [{ calendar_file: holidays.txt }]\n"
	for way, places := range refusals(t, s, bad, "holidays.txt") {
		if diff := cmp.Diff([]string{"3:1"}, places); diff != "" {
			t.Errorf("%s tells of mistakes in the calendar at (-want +got):\n%s", way, diff)
		}
	}
}
