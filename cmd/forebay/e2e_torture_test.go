package main_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	flakyRate = 500  // what the drain to the sink that fails at times may do
	slowMost  = 250  // the other drain has less than what comes
	slowLeast = 20   // while segments are to be rewritten
	slowLast  = 3000 // until the end, so that what it left comes out
)

// TestTorture kills the program at random points while callers post, two drains
// deliver and policies change, starts it again each time, and then counts.
// `make torture N=…` runs it with N kills; FOREBAY_TORTURE_SEED repeats the
// choices of a run, as far as the machine lets things happen at the same time. After a
// third of the kills the directory is encrypted, and then its master key is exchanged now
// and then; FOREBAY_TORTURE_ENCRYPTION=off leaves that out, and on begins with it.
func TestTorture(t *testing.T) {
	t.Parallel()
	kills := envInt(t, "FOREBAY_TORTURE_KILLS", 5)
	x := newTorture(t, kills, "kills", "")
	x.crash = (*server).kill
	x.run(kills)
	if x.load.refused > 0 {
		t.Errorf("%d requests were refused by a program with room for all", x.load.refused)
	}
	x.report(x.judge())
}

// A torture is one installation under load, and the ways in which it is crashed.
type torture struct {
	t           *testing.T
	what        string // the crashes
	seed        int
	rng         *rand.Rand
	site        *site
	load        *load
	flaky, slow *sink
	late        *lateness

	crash func(srv *server) time.Time // returns once the program has ended: when that began
	mend  func()                      // what has to be done before the next start

	encryptAt int  // the life from which on the directory is encrypted
	hasKey    bool // since

	crashed  []crash
	rewrites int // that were seen
}

func newTorture(t *testing.T, n int, what, volume string) *torture {
	seed := envInt(t, "FOREBAY_TORTURE_SEED", int(time.Now().UnixNano()))
	fmt.Printf("torture: %d %s, FOREBAY_TORTURE_SEED=%d\n", n, what, seed)
	x := &torture{
		t: t, what: what, seed: seed, rng: rand.New(rand.NewPCG(uint64(seed), 0)),
		flaky: newSink(t, func(log []arrival, _ arrival) answer {
			if len(log)%20 == 7 {
				return answer{status: 500}
			}
			return answer{status: 200}
		}),
		slow: newSink(t, func([]arrival, arrival) answer { return answer{status: 200, after: 10 * time.Millisecond} }),
		late: watchLateness(t),
		mend: func() {}, encryptAt: n,
	}
	switch mode := os.Getenv("FOREBAY_TORTURE_ENCRYPTION"); mode {
	case "off":
	case "on":
		x.encryptAt = 0
	case "":
		x.encryptAt = n / 3
	default:
		t.Fatalf("FOREBAY_TORTURE_ENCRYPTION is %q, want on or off", mode)
	}
	x.site = newSite(t, x.policy(slowMost))
	x.site.volume = volume
	x.load = startLoad(t, uint64(seed))
	return x
}

// policy has two drains and two routes, of single orders and of batches.
func (x *torture) policy(slowRate int) string {
	return fmt.Sprintf(`version: 1
sinks:
  - { name: flaky, http: { urls: [%q] }, breaker: off }
  - { name: slow, http: { urls: [%q] } }
streams:
  - { name: orders, ordering_key: ["json:/customer"] }
drains:
  - { name: to-flaky, stream: orders, sink: flaky, schedule: { base: %d/s }, retry: { max_attempts: 1000, backoff: { initial: 20ms, max: 100ms }, budget: 100%% } }
  - { name: to-slow, stream: orders, sink: slow, schedule: { base: %d/s } }
routes:
  - { name: create-order, match: { methods: [POST], path: /v1/orders }, mode: buffer, stream: orders }
  - { name: create-orders, match: { methods: [POST], path: /v1/batches }, mode: buffer, stream: orders, split: ndjson }
`, x.flaky.url, x.slow.url, flakyRate, slowRate)
}

// run crashes the program so many times.
func (x *torture) run(n int) {
	for i := range n {
		x.encrypt(i)
		srv := x.site.launch()
		switch {
		case i%20 == 10:
			srv.waitReady()
			x.liveLong(srv, i%40 == 10)
		case x.rng.IntN(4) == 0: // while it recovers
			within(srv, time.Duration(x.rng.IntN(150))*time.Millisecond)
		default:
			srv.waitReady()
			x.live(srv)
		}
		if !srv.running() {
			x.t.Fatalf("the program ended by itself (%v):\n%s", srv.cmd.ProcessState, srv.stderr.tail(40))
		}
		x.crashed = append(x.crashed, crash{x.crash(srv), time.Now()})
		x.load.sendTo("")
		x.mend()
	}
	verify(x.t, x.site.data(), 0, "--config", x.site.path("forebay.yaml")) // a crash is no damage
}

// encrypt does what there is to do with keys before a life.
func (x *torture) encrypt(life int) {
	switch {
	case life == x.encryptAt:
		x.site.encrypt()
		x.hasKey = true
	case life > x.encryptAt && x.rng.IntN(3) == 0 && x.wrapped():
		x.site.rotate()
	}
}

// wrapped reports whether a life lasted long enough to encrypt the directory.
func (x *torture) wrapped() bool {
	key, err := os.ReadFile(filepath.Join(x.site.data(), "KEY"))
	_, noFormat := os.Stat(filepath.Join(x.site.data(), "FORMAT"))
	return err == nil && noFormat == nil && strings.HasPrefix(string(key), "FBKEY")
}

// encrypted looks whether it was meant to be.
func (x *torture) encrypted() {
	_, stderr, code := command(x.t, "verify", "--data", x.site.data())
	if refused := code == 1 && strings.Contains(stderr, "is encrypted, with master key"); refused != x.hasKey {
		x.t.Errorf("verify without a key = %d, %s", code, stderr)
	}
}

// live lets the program take a few hundred messages, with a reload before or at
// the end of them in half of its lives.
func (x *torture) live(srv *server) {
	x.load.sendTo(srv.public)
	reload, messages := x.rng.IntN(4), 50+x.rng.IntN(450)
	if reload == 0 {
		x.site.setPolicy(x.policy(slowMost/2 + x.rng.IntN(slowMost/2)))
	}
	x.load.awaits(x.t, messages)
	if reload == 1 {
		x.site.setPolicy(x.policy(slowMost/2 + x.rng.IntN(slowMost/2)))
		_ = srv.cmd.Process.Signal(syscall.SIGHUP) // where it has ended the next look says so
	}
	within(srv, time.Duration(x.rng.IntN(5000))*time.Microsecond)
}

// liveLong lets the program live until it rewrites segments, which it does every
// ten seconds with what was to be rewritten at the look before, too. The crash is
// right after one, or about when it is due.
func (x *torture) liveLong(srv *server, after bool) {
	x.load.sendTo(srv.public)
	x.site.setPolicy(x.policy(slowLeast))
	if !after {
		within(srv, 19900*time.Millisecond+time.Duration(x.rng.IntN(200))*time.Millisecond)
		return
	}
	until(x.t, time.Minute, "segments are rewritten", func() bool {
		return strings.Contains(srv.stderr.tail(keptLines), "was rewritten")
	})
	x.rewrites++
	within(srv, time.Duration(x.rng.IntN(5000))*time.Microsecond)
}

// A tally is what came of a torture.
type tally struct {
	lost, duplicates int
	faults           []string
}

// judge lets the program deliver the rest, and compares what everybody knows.
func (x *torture) judge() tally {
	t := x.t
	srv := x.site.start()
	x.load.sendTo(srv.public)
	x.load.awaits(t, 100)
	x.load.stop()
	held := time.Now()
	x.site.setPolicy(x.policy(slowLast))
	if r := reload(t, srv); r.status != 200 {
		t.Fatalf("reload = %d %s", r.status, r.body)
	}
	backlog := accountOf(t, srv, "to-slow").Buffered
	until(t, time.Minute+time.Duration(backlog)*10*time.Second/slowLast, "all delivered", func() bool {
		return accountOf(t, srv, "to-flaky").Buffered+accountOf(t, srv, "to-slow").Buffered == 0
	})

	flakyLog, slowLog := x.flaky.arrivals(), x.slow.arrivals()
	flaky := x.load.verdict("to-flaky", flakyLog, x.crashed)
	slow := x.load.verdict("to-slow", slowLog, x.crashed)
	known := make(map[string]bool)
	for _, ids := range []map[string]bool{flaky.seen, slow.seen} {
		for id := range ids {
			known[id] = true
		}
	}
	for id := range x.load.ids {
		known[id] = true
	}
	sum := tally{lost: flaky.lost + slow.lost, duplicates: flaky.duplicates + slow.duplicates}
	sum.add(x.load.faults...)
	sum.add(flaky.faults...)
	sum.add(slow.faults...)
	sum.add(flaky.wrong(accountOf(t, srv, "to-flaky"), len(known)), slow.wrong(accountOf(t, srv, "to-slow"), len(known)))
	sum.add(envelope{rate: flakyRate, burst: flakyRate / 100, late: x.late.max()}.breach(times(flakyLog)))
	sum.add(envelope{rate: slowMost, burst: slowMost / 100.0, late: x.late.max()}.breach(timesBefore(slowLog, held)))
	if most := len(x.crashed) * (2*64 + (flakyRate+slowMost)/10); sum.duplicates > most {
		sum.add(fmt.Sprintf("%d duplicates, at most %d can have been in flight or not yet recorded", sum.duplicates, most))
	}
	srv.stop()
	x.encrypted()
	return sum
}

func (s *tally) add(faults ...string) {
	for _, f := range faults {
		if f != "" {
			s.faults = append(s.faults, f)
		}
	}
}

// report prints the result, and fails the test where there is a fault.
func (x *torture) report(s tally) {
	const shown = 20
	verify(x.t, x.site.data(), 0, "--config", x.site.path("forebay.yaml"))
	if len(s.faults) > 0 {
		x.t.Errorf("%d faults, FOREBAY_TORTURE_SEED=%d:\n%s", len(s.faults), x.seed, strings.Join(s.faults[:min(shown, len(s.faults))], "\n"))
	}
	l := x.load
	fmt.Printf("%d %s, %d messages, %d lost, %d duplicates\n", len(x.crashed), x.what, l.acked.Load(), s.lost, s.duplicates)
	fmt.Printf("of them %d came in batches; %d requests were sent again, %d deliveries cancelled, segments rewritten in %d lives\n",
		l.inBatches, l.again, l.cancels, x.rewrites)
}

// timesBefore are those of the log until then; the log is sorted.
func timesBefore(log []arrival, end time.Time) []time.Time {
	at := times(log)
	for i, a := range at {
		if a.After(end) {
			return at[:i]
		}
	}
	return at
}

// within waits for that long, or until the program has ended.
func within(srv *server, d time.Duration) {
	select {
	case <-srv.done:
	case <-time.After(d):
	}
}

func envInt(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%q, want a number from 1", name, text)
	}
	return n
}
