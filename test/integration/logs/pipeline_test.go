// Package logs_test runs examples/log-pipeline between agents and a real search node.
package logs_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"forebay/test/integration/parts"
)

const (
	drain       = "logs-to-search"
	rate        = 5000      // lines a second
	bytesRate   = 1_500_000 // bytes a second
	bulkLines   = 500       // of the example
	concurrency = 2
)

// policy is the example's, for a slow machine.
func policy(t *testing.T, url string) string {
	t.Helper()
	text, err := os.ReadFile("../../../examples/log-pipeline/policy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	p := string(text)
	for from, to := range map[string]string{
		"http://127.0.0.1:9200": url, "10000/s": fmt.Sprintf("%d/s", rate), "4MiB/s": fmt.Sprintf("%d/s", bytesRate),
	} {
		if strings.Count(p, from) != 1 {
			t.Fatalf("the example has %q %d times, want once", from, strings.Count(p, from))
		}
		p = strings.Replace(p, from, to, 1)
	}
	return p
}

// rounds is how many batches each agent posts before there are faults, and then beside
// agents that are odd. FOREBAY_LOG_ROUNDS asks for more.
func rounds(t *testing.T) int {
	t.Helper()
	n, err := strconv.Atoi(cmp.Or(os.Getenv("FOREBAY_LOG_ROUNDS"), "1"))
	if err != nil || n < 1 {
		t.Fatalf("FOREBAY_LOG_ROUNDS = %q, want a number from 1", os.Getenv("FOREBAY_LOG_ROUNDS"))
	}
	return n
}

// TestPipeline: through a busy node, kills of either side in the middle of requests, and
// agents that post bombs, cut batches and everything twice, the index holds every valid
// line once, and the dead letters are the others.
func TestPipeline(t *testing.T) {
	c := newCluster(t)
	s := newSite(t, policy(t, c.door.URL))
	var alone, beside []time.Duration
	for n := range rounds(t) {
		alone = append(alone, s.round(fmt.Sprintf("alone%d", n))...)
	}
	stop := s.odd()
	for n := range rounds(t) {
		beside = append(beside, s.round(fmt.Sprintf("beside%d", n))...)
	}
	s.bulk("bulk")
	odd := stop()
	t.Logf("odd agents were answered %v", odd)
	for _, name := range []string{"bombs", "cut", "twice"} {
		if odd[name] == 0 {
			t.Errorf("the agent that sends %s was never answered", name)
		}
	}
	nobodyWaited(t, alone, beside)
	for n, answered := range []bool{true, false, true} {
		s.fault(c, n, answered, func() { s.Kill() }, func() { s.Restart() })
	}
	s.fault(c, 3, false, func() { c.Kill() }, func() { c.Restart() })
	account := s.Settle(drain, time.Duration(4+rounds(t))*time.Minute)
	s.compare(c, account)
	limits(t, c)
}

// fault makes one while four agents post, two of them halfway through their batch and one
// just done, and a bulk request is half sent to the node, or answered by it and the answer
// not yet seen.
func (s *site) fault(c *cluster, n int, answered bool, fault, mend func()) {
	s.t.Helper()
	bulk := c.holdNext(answered)
	before := fmt.Sprintf("before-fault%d", n)
	s.post(delivered(n, before, s.batch(before, 3))) // there is something to deliver
	bulk.wait(s.t)
	release, sent := make(chan struct{}), make(chan struct{})
	var halves []stuck
	var all sync.WaitGroup
	for a := range 4 {
		name := fmt.Sprintf("fault%d-agent%02d", n, a)
		d := delivered(a, name, s.batch(name, 3))
		switch a {
		case 0, 1:
			rest := stuck{make(chan struct{}), release}
			halves = append(halves, rest)
			d.body = func(packed []byte) io.Reader { return io.MultiReader(bytes.NewReader(packed[:len(packed)/2]), rest) }
		case 2:
			d.body = func(packed []byte) io.Reader { return io.MultiReader(bytes.NewReader(packed), atEnd{sent}) }
		}
		all.Go(func() { s.post(d) })
	}
	for _, half := range halves {
		<-half.reached
	}
	<-sent
	if d := s.Drain(drain); d.InFlight == 0 {
		s.t.Errorf("fault %d: nothing is in flight: %+v", n, d)
	}
	fault()
	close(release)
	close(bulk.release)
	mend()
	all.Wait()
}

// atEnd tells that a body was read to its end.
type atEnd struct{ reached chan struct{} }

func (a atEnd) Read([]byte) (int, error) {
	close(a.reached)
	return 0, io.EOF
}

// nobodyWaited compares how long good agents waited beside odd ones and without them.
func nobodyWaited(t *testing.T, alone, beside []time.Duration) {
	t.Helper()
	slices.Sort(alone)
	slices.Sort(beside)
	for _, at := range []struct {
		name  string
		of    func([]time.Duration) time.Duration
		slack time.Duration
	}{
		{"median", func(all []time.Duration) time.Duration { return all[len(all)/2] }, time.Second},
		{"worst", func(all []time.Duration) time.Duration { return all[len(all)-1] }, 3 * time.Second},
	} {
		control, got := at.of(alone), at.of(beside)
		t.Logf("a batch took, %s: %v alone, %v beside odd agents", at.name, control.Round(time.Millisecond), got.Round(time.Millisecond))
		if got > 5*control+at.slack {
			t.Errorf("good agents waited: %s %v, alone it was %v", at.name, got, control)
		}
	}
}

// compare holds the index, and the dead letters, to what was posted.
func (s *site) compare(c *cluster, account parts.Account) {
	s.t.Helper()
	there := make(map[string]bool)
	for _, d := range c.Documents("logs-*") {
		want, known := s.got[d.ID]
		if !known || want.fault != "" || there[d.ID] || string(d.Source) != want.text {
			s.t.Fatalf("document %s (known %t, a second one %t) is %q, want %+v", d.ID, known, there[d.ID], d.Source, want)
		}
		there[d.ID] = true
	}
	reasons, bad := s.dead(), 0
	for id, line := range s.got {
		reason, dead := reasons[id]
		switch {
		case line.fault != "":
			bad++
			if !dead || !strings.Contains(reason, line.fault) || strings.Contains(reason, "no number") {
				s.t.Fatalf("%s (dead letter %t) has the reason %q, want %q in it", id, dead, reason, line.fault)
			}
		case !there[id]:
			s.t.Fatalf("%s is in no index: %q; dead letter %q", id, line.text, reason)
		}
	}
	s.t.Logf("%d lines posted, %d are documents, %d dead letters; account %+v", len(s.got), len(there), len(reasons), account)
	want := parts.Account{Stream: "logs", Drain: drain, Accepted: int64(len(s.got)), Delivered: int64(len(there)), Dead: int64(bad)}
	if account != want || len(reasons) != bad {
		s.t.Errorf("account = %+v, want %+v; %d dead letters are listed", account, want, len(reasons))
	}
}

// limits holds what came at the node to the policy: in any stretch t no more than rate × t
// and burst, and what was under way when it began. It has to have been the limit.
func limits(t *testing.T, c *cluster) {
	t.Helper()
	came, statuses := c.seen()
	t.Logf("%d requests; documents by status %v", len(came), statuses)
	for _, status := range []int{201, 400, 409, 429} {
		if statuses[status] == 0 {
			t.Errorf("no document was answered %d", status)
		}
	}
	bulkBytes := 0
	for _, a := range came {
		bulkBytes = max(bulkBytes, a.bytes)
	}
	for _, span := range []time.Duration{time.Second, 3 * time.Second, 10 * time.Second} {
		docs, size := most(came, span)
		mayDocs := int(rate*span.Seconds()) + (1+concurrency)*bulkLines
		maySize := int(bytesRate*span.Seconds()) + (1+concurrency)*bulkBytes
		t.Logf("in any %v: %d lines of %d, %d bytes of %d", span, docs, mayDocs, size, maySize)
		if docs > mayDocs || size > maySize {
			t.Errorf("in %v %d lines and %d bytes came, at most %d and %d may", span, docs, size, mayDocs, maySize)
		}
		if span < 10*time.Second && (docs < mayDocs/4 || size < maySize/4) {
			t.Errorf("in %v %d lines and %d bytes came: the limits of %d and %d were not tried", span, docs, size, mayDocs, maySize)
		}
	}
}

// dead are the last errors of the dead letters.
func (s *site) dead() map[string]string {
	s.t.Helper()
	reasons := make(map[string]string)
	args := []string{"dead", "list", "--drain", drain, "--limit", "1000", "-o", "json"}
	for after := ""; ; {
		out, code := s.Command(append(args, "--after", after)...)
		var page struct {
			Items []struct {
				ID        string `json:"id"`
				LastError string `json:"last_error"`
			} `json:"items"`
			Next string `json:"next"`
		}
		if err := json.Unmarshal([]byte(out), &page); err != nil || code != 0 {
			s.t.Fatalf("dead list = %d, %s: %v", code, out, err)
		}
		for _, d := range page.Items {
			reasons[d.ID] = d.LastError
		}
		if after = page.Next; after == "" {
			return reasons
		}
	}
}
