package main

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"
)

// even is a log of n requests at a rate, from a second after the epoch on.
func even(n int, rate float64) (log []int64) {
	for i := range n {
		log = append(log, int64(time.Second)+int64(float64(i)/rate*float64(time.Second)))
	}
	return log
}

func TestEnvelope(t *testing.T) {
	bunched := even(4000, 200)
	for i := range 19 { // 20 at once, where 2 and one more may come
		bunched[1001+i] = bunched[1000]
	}
	tests := []struct {
		name   string
		log    []int64
		inside bool
		spans  int
	}{
		{"even", even(4000, 200), true, 4},
		{"short", even(30, 200), true, 2},
		{"bunched", bunched, false, 4},
		{"faster", even(4000, 204), false, 4},
		{"slower", even(4000, 196), false, 4},
		{"nothing", nil, false, 0},
	}
	for _, tt := range tests {
		p := paced{rate: 200, mean: mean(tt.log, 0), windows: windows(tt.log, 200, 2)}
		if p.holds() != tt.inside || len(p.windows) != tt.spans {
			t.Errorf("%s: inside %v with %d windows, want %v and %d: %+v", tt.name, p.holds(), len(p.windows), tt.inside, tt.spans, p)
		}
	}
	if got := most(even(1000, 1000), 50*time.Millisecond); got != 51 {
		t.Errorf("most of an even log in 50 spaces = %d, want both ends too: 51", got)
	}
}

func TestMinute(t *testing.T) {
	for now, want := range map[string]string{
		"2026-11-25T10:00:49Z":      `dates: ["2026-11-25"], times: [{ start_time: "10:01", end_time: "10:02" }]`,
		"2026-11-25T10:00:51Z":      `dates: ["2026-11-25"], times: [{ start_time: "10:02", end_time: "10:03" }]`,
		"2026-11-25T23:58:30Z":      `dates: ["2026-11-25"], times: [{ start_time: "23:59", end_time: "24:00" }]`,
		"2026-11-26T07:59:30+08:00": `dates: ["2026-11-26"], times: [{ start_time: "00:00", end_time: "00:01" }]`,
	} {
		at, err := time.Parse(time.RFC3339, now)
		if err != nil {
			t.Fatal(err)
		}
		if got := coming(at).pacing(1).intervals; !strings.Contains(got, want) {
			t.Errorf("the window after %s: %s, want %s", now, got, want)
		}
	}
	m := coming(time.Unix(0, 0))
	from, to := m.from.UnixNano(), m.to.UnixNano()
	for name, tt := range map[string]struct {
		log    []int64
		inside bool
	}{
		"inside":     {[]int64{from + 1e6, to - 1e6}, true},
		"before":     {[]int64{from - 1, to - 1e6}, false},
		"late":       {[]int64{from + 51e6, to - 1e6}, false},
		"after":      {[]int64{from + 1e6, to + 6e6}, false},
		"on its way": {[]int64{from + 1e6, to + 4e6}, true},
		"nothing":    {nil, false},
	} {
		if err := m.judge(tt.log); (err == nil) != tt.inside {
			t.Errorf("%s: judge = %v, want inside %v", name, err, tt.inside)
		}
	}
}

// TestStamp: a request that is read late came when it was sent.
func TestStamp(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	out, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	in, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	from, came := stamp(in)
	if from == io.Reader(in) {
		t.Skip("the kernel does not say when something came")
	}
	late := 0 // the kernel begins with it a little after it was asked
	for ; late < 100; late++ {
		sent := time.Now().Round(0)
		if _, err := io.WriteString(out, "x"); err != nil {
			t.Fatal(err)
		}
		for time.Since(sent) < 10*time.Millisecond {
			runtime.Gosched()
		}
		read := time.Now().Round(0)
		if n, err := from.Read(make([]byte, 10)); n != 1 || err != nil {
			t.Fatalf("read %d bytes, %v", n, err)
		}
		if at := came(); at.After(sent.Add(-time.Second)) && at.Before(read) {
			break
		}
	}
	if late == 100 {
		t.Error("what was read late never came before")
	}
	out.Close()
	if _, err := from.Read(make([]byte, 10)); !errors.Is(err, io.EOF) {
		t.Errorf("read after the end: %v", err)
	}
}

// TestSink: each request is answered, and in the log once.
func TestSink(t *testing.T) {
	sink, err := listenSink()
	if err != nil {
		t.Fatal(err)
	}
	defer sink.close()
	began := time.Now()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	client := http.Client{Transport: transport, Timeout: time.Minute}
	for range 20 {
		if err := postOne(&client, "http://"+sink.addr()+"/v1/orders", []byte(`{"n":1}`)); err != nil {
			t.Fatal(err)
		}
	}
	log, err := sink.arrivals()
	if err != nil || len(log) != 20 || sink.took.Load() != 20 {
		t.Fatalf("the log has %d, %v, and %d were counted; want 20", len(log), err, sink.took.Load())
	}
	if first := time.Unix(0, log[0]); first.Before(began.Round(0)) || time.Since(first) > time.Minute {
		t.Errorf("the first came at %v, and it is %v", first, time.Now())
	}
	if log, err := sink.arrivals(); err != nil || len(log) != 0 {
		t.Errorf("asked again, the log has %d, %v", len(log), err)
	}
}

func TestReadPosted(t *testing.T) {
	for _, tt := range []struct {
		name, request string
		ok            bool
	}{
		{"whole", "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}", true},
		{"another method", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", false},
		{"no length", "POST / HTTP/1.1\r\nHost: x\r\n\r\n", false},
		{"cut off", "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\n{}", false},
		{"a length of letters", "POST / HTTP/1.1\r\nContent-Length: ab\r\n\r\n{}", false},
	} {
		if err := readPosted(bufio.NewReader(strings.NewReader(tt.request))); (err == nil) != tt.ok {
			t.Errorf("%s: readPosted = %v, want ok %v", tt.name, err, tt.ok)
		}
	}
}
