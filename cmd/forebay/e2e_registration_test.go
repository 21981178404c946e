package main_test

import (
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// scenario is examples/registration at work: the program, its callers and both services.
type scenario struct {
	t     *testing.T
	speed int // how much faster both services are than in the example
	site  *site
	srv   *server
	late  *lateness

	callers     *registrants
	email, text *service
	kills       []time.Time
	raised      time.Time // when the rate of e-mails was
}

// service is one that takes messages, with what it did.
type service struct {
	*sink
	door *door
	done map[string]bool // guarded by sink.mu; ids that were answered 200
	// stalled has it not answer at all.
	stalled atomic.Bool
}

func newService(t *testing.T, say func(s *service, log []arrival) answer) *service {
	s := &service{door: newDoor(t), done: make(map[string]bool)}
	s.sink = newSinkOn(t, s.door, func(log []arrival, a arrival) answer {
		ans := say(s, log)
		if ans.status == http.StatusOK && a.Whole {
			s.done[a.ID] = true
		}
		return ans
	})
	return s
}

func (s *service) delivered() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.done)
}

func number(t *testing.T, variable string, otherwise int) int {
	t.Helper()
	v := os.Getenv(variable)
	if v == "" {
		return otherwise
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 {
		t.Fatalf("%s = %q, want a number from 1 on", variable, v)
	}
	return n
}

// TestScenarioRegistration is what examples/registration/README.md tells, of the real
// program.
func TestScenarioRegistration(t *testing.T) {
	n := number(t, "FOREBAY_SCENARIO_REGISTRATIONS", 0)
	if n == 0 {
		t.Skip("it takes minutes: make scenarios")
	}
	s := startScenario(t, number(t, "FOREBAY_SCENARIO_SPEED", 1))
	up, down := s.compare(n / 2)
	t.Logf("register, both up:   p50 %v, p99 %v", up[len(up)/2], up[len(up)*99/100])
	t.Logf("register, both down: p50 %v, p99 %v", down[len(down)/2], down[len(down)*99/100])

	s.text.stalled.Store(true)
	time.AfterFunc(30*time.Second/time.Duration(s.speed), func() { s.text.stalled.Store(false) })
	posted := make(chan struct{})
	go func() {
		defer close(posted)
		s.callers.post(n/2, n)
	}()
	s.kill("registrations", s.callers.taken, n*3/5)
	<-posted
	s.raise()
	s.kill("e-mails", s.email.delivered, n/2)
	s.awaits("e-mails", s.email.delivered, n)
	s.awaits("text messages", s.text.delivered, n)
	s.wantBalance(n)
	s.verdict(n)
	// It is 5 ms on a machine that does nothing else.
	if limit := up[len(up)*99/100] + 50*time.Millisecond; os.Getenv("FOREBAY_INTEGRATION") != "" && down[len(down)*99/100] > limit {
		t.Errorf("p99 of registering is %v while both services are down, want it within %v", down[len(down)*99/100], limit)
	}
}

// compare posts the first n registrations, by turns while both services are up and while
// they are down, and returns what each kind took, sorted.
func (s *scenario) compare(n int) (up, down []time.Duration) {
	const turns = 8
	for i := range turns {
		isDown := i%2 > 0
		s.email.door.set(isDown)
		s.text.door.set(isDown)
		took := s.callers.post(n*i/turns, n*(i+1)/turns)
		if isDown {
			down = append(down, took...)
		} else {
			up = append(up, took...)
		}
	}
	s.email.door.set(false)
	s.text.door.set(false)
	slices.Sort(up)
	slices.Sort(down)
	return up, down
}

func startScenario(t *testing.T, speed int) *scenario {
	s := &scenario{t: t, speed: speed, late: watchLateness(t)}
	s.email = newService(t, func(_ *service, log []arrival) answer {
		if every := 50 * speed; len(log)%every == every-1 {
			return answer{status: http.StatusServiceUnavailable, header: http.Header{"Retry-After": {"1"}}}
		}
		return answer{status: http.StatusOK}
	})
	s.text = newService(t, func(s *service, _ []arrival) answer {
		if s.stalled.Load() {
			return answer{status: http.StatusGatewayTimeout, after: time.Hour} // until Forebay leaves
		}
		return answer{status: http.StatusOK}
	})
	s.site = newSite(t, s.policy(50))
	s.srv = s.site.start()
	s.callers = newRegistrants(t, s.srv.public)
	return s
}

// policy is the example's, with this run's addresses and rates.
func (s *scenario) policy(emails int) string {
	s.t.Helper()
	text := readText(s.t, "../../examples/registration/policy.yaml")
	for old, present := range map[string]string{
		"http://127.0.0.1:9001": s.email.url, "http://127.0.0.1:9002": s.text.url,
		"rate: 50/s": fmt.Sprintf("rate: %d/s", emails*s.speed), "rate: 40/s": fmt.Sprintf("rate: %d/s", 40*s.speed),
	} {
		if strings.Count(text, old) != 1 {
			s.t.Fatalf("the example has %q %d times, want once", old, strings.Count(text, old))
		}
		text = strings.Replace(text, old, present, 1)
	}
	return text
}

// awaits waits for so many of something. At the least rate there is, that takes minutes.
func (s *scenario) awaits(what string, count func() int, n int) {
	s.t.Helper()
	until(s.t, time.Hour, fmt.Sprintf("%d %s", n, what), func() bool { return count() >= n || !s.srv.running() })
	if !s.srv.running() {
		s.t.Fatal("the program has ended")
	}
}

// kill kills the program once there are so many of something, and starts it again.
func (s *scenario) kill(what string, count func() int, n int) {
	s.t.Helper()
	s.awaits(what, count, n)
	s.kills = append(s.kills, s.srv.kill())
	s.srv = s.site.start()
	s.callers.sendTo(s.srv.public)
}

// raise has 80 e-mails a second in the place of 50.
func (s *scenario) raise() {
	s.t.Helper()
	s.site.setPolicy(s.policy(80))
	s.raised = time.Now()
	if r := reload(s.t, s.srv); r.status != http.StatusOK {
		s.t.Fatalf("reload = %d %s", r.status, r.body)
	}
}
