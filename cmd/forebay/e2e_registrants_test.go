package main_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"
)

const registrationRate = 500 // a second

// registrants post registrations at a fixed rate, whatever becomes of them, and each of
// them until it is answered.
type registrants struct {
	c *caller

	mu             sync.Mutex
	public         string         // guarded by mu; where the program listens
	numbers        map[string]int // guarded by mu; by id
	again, changed int            // guarded by mu; sent again, and refused with another body
	faults         []string       // guarded by mu
}

func newRegistrants(t *testing.T, public string) *registrants {
	return &registrants{c: newCaller(t, 64), public: public, numbers: make(map[string]int)}
}

func registrationKey(n int) string   { return fmt.Sprintf("registration-%d", n) }
func registrationTrace(n int) string { return fmt.Sprintf("00-%032x-%016x-01", n+1, n+1) }

func registrationBody(n int) []byte {
	return fmt.Appendf(nil, `{"email":"c%d@example.com","phone":"+49 30 %07d","name":"Customer %d"}`, n, n, n)
}

// post sends the registrations from … to-1 and returns what each of them took.
func (r *registrants) post(from, to int) []time.Duration {
	took := make([]time.Duration, to-from)
	tick := time.NewTicker(time.Second / registrationRate)
	defer tick.Stop()
	var wg sync.WaitGroup
	for n := from; n < to; n++ {
		<-tick.C
		wg.Go(func() {
			began := time.Now()
			id := r.register(n)
			took[n-from] = time.Since(began)
			r.repeat(n, id)
		})
	}
	wg.Wait()
	return took
}

// register posts one until it is taken.
func (r *registrants) register(n int) (id string) {
	got := r.send(n, registrationBody(n))
	var said struct{ ID string }
	if err := json.Unmarshal(got.body, &said); err != nil || got.status != http.StatusAccepted {
		r.fault("registration %d was answered %d %s", n, got.status, got.body)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.numbers[said.ID] = n
	return said.ID
}

// repeat sends one in twenty again, and one in a hundred with another body.
func (r *registrants) repeat(n int, id string) {
	switch {
	case n%20 == 3:
		got := r.send(n, registrationBody(n))
		var said struct{ ID string }
		if err := json.Unmarshal(got.body, &said); err != nil || got.status != http.StatusAccepted || said.ID != id {
			r.fault("registration %d, sent again, was answered %d %s, want the receipt of %s", n, got.status, got.body, id)
		}
		r.count(&r.again)
	case n%100 == 7:
		if got := r.send(n, append(registrationBody(n), ' ')); got.status != http.StatusUnprocessableEntity {
			r.fault("registration %d with another body was answered %d %s, want 422", n, got.status, got.body)
		}
		r.count(&r.changed)
	}
}

// send posts until there is an answer: none comes while the program is not there.
func (r *registrants) send(n int, body []byte) reply {
	fields := map[string]string{"Idempotency-Key": registrationKey(n), "Traceparent": registrationTrace(n)}
	for ends := time.Now().Add(time.Minute); ; {
		got, err := r.c.send(http.MethodPost, r.at()+"/v1/registrations", body, fields)
		if err == nil && got.status < 500 && got.status != http.StatusConflict {
			return got
		}
		if time.Now().After(ends) {
			r.fault("registration %d is not answered: %d %s, %v", n, got.status, got.body, err)
			return got
		}
		<-time.After(20 * time.Millisecond)
	}
}

// taken is how many were answered 202.
func (r *registrants) taken() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.numbers)
}

func (r *registrants) at() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.public
}

func (r *registrants) sendTo(public string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.public = public
}

func (r *registrants) count(of *int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	*of++
}

func (r *registrants) fault(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults = append(r.faults, fmt.Sprintf(format, args...))
}

// A door is a listener that can be shut: who knocks then, or was inside, is cut off.
type door struct {
	net.Listener

	mu   sync.Mutex
	shut bool                  // guarded by mu
	in   map[*net.TCPConn]bool // guarded by mu
}

func newDoor(t *testing.T) *door {
	t.Helper()
	config := net.ListenConfig{Control: stampSocket}
	ln, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return &door{Listener: ln, in: make(map[*net.TCPConn]bool)}
}

// Accept implements net.Listener.
func (d *door) Accept() (net.Conn, error) {
	for {
		c, err := d.Listener.Accept()
		if err != nil {
			return nil, err
		}
		tcp := c.(*net.TCPConn)
		d.mu.Lock()
		if !d.shut {
			d.in[tcp] = true
			d.mu.Unlock()
			return tcp, nil
		}
		d.mu.Unlock()
		cutOff(tcp)
	}
}

func (d *door) set(shut bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.shut = shut
	if shut {
		for c := range d.in {
			cutOff(c)
		}
		clear(d.in)
	}
}

func cutOff(c *net.TCPConn) {
	_ = c.SetLinger(0) // it is cut off either way
	c.Close()
}
