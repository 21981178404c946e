package webhdfs_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"forebay/buffer"
	"forebay/drain"
	"forebay/drain/sink/webhdfs"
	"forebay/limiter"
	"forebay/policies"
)

// cluster is a NameNode and a DataNode in memory. It answers as Hadoop 3.4 does.
type cluster struct {
	t          *testing.T
	name, data *httptest.Server

	mu     sync.Mutex
	files  map[string]string                         // guarded by mu
	ops    []string                                  // guarded by mu
	latest map[string]string                         // guarded by mu; the file of an operation
	refuse func(op, file string, atData bool) *fault // guarded by mu; nil: nothing is refused
	moved  string                                    // guarded by mu; where data is sent in the place of the DataNode
	gate   func(op string)                           // set before use; what a DataNode does when it has read a body; nil: nothing
}

// fault is what is answered in the place of doing something.
type fault struct {
	exception string
	after     bool // it is done all the same
	hang      bool // the connection is cut in the place of an answer
}

func newCluster(t *testing.T) *cluster {
	c := &cluster{t: t, files: map[string]string{}, latest: map[string]string{}}
	c.name, c.data = httptest.NewServer(http.HandlerFunc(c.nameNode)), httptest.NewServer(http.HandlerFunc(c.dataNode))
	t.Cleanup(c.name.Close)
	t.Cleanup(c.data.Close)
	return c
}

// refusing sets what is refused from now on.
func (c *cluster) refusing(refuse func(op, file string, atData bool) *fault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refuse = refuse
}

// refuses answers with a fault, if there is one, and reports whether that is all.
func (c *cluster) refuses(w http.ResponseWriter, op, file string, atData bool, do func()) bool {
	c.ops = append(c.ops, op)
	c.latest[op] = file
	if c.refuse == nil {
		return false
	}
	f := c.refuse(op, file, atData)
	if f == nil {
		return false
	}
	if f.after {
		do()
	}
	if f.hang {
		panic(http.ErrAbortHandler)
	}
	except(w, http.StatusForbidden, f.exception)
	return true
}

func except(w http.ResponseWriter, status int, exception string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"RemoteException":{"exception":%q,"javaClassName":"org.apache.hadoop.X","message":"it is so\n\tat org.apache"}}`, exception)
}

func (c *cluster) nameNode(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	op, file := r.URL.Query().Get("op"), strings.TrimPrefix(r.URL.Path, "/webhdfs/v1")
	answer, act := any(nil), func() {}
	switch op {
	case "CREATE", "APPEND":
		to := c.data.URL
		if c.moved != "" {
			to = c.moved
		}
		answer = map[string]string{"Location": to + r.URL.Path + "?" + r.URL.RawQuery}
	case "RENAME":
		to := r.URL.Query().Get("destination")
		_, here := c.files[file]
		_, there := c.files[to]
		answer = map[string]bool{"boolean": here && !there}
		act = func() {
			if here && !there {
				c.files[to] = c.files[file]
				delete(c.files, file)
			}
		}
	case "DELETE":
		_, here := c.files[file]
		answer, act = map[string]bool{"boolean": here}, func() { delete(c.files, file) }
	case "GETFILESTATUS":
		if _, here := c.files[file]; !here {
			except(w, http.StatusNotFound, "FileNotFoundException")
			return
		}
		answer = map[string]any{"FileStatus": map[string]string{"type": "FILE"}}
	case "LISTSTATUS":
		var list []map[string]string
		for name := range c.files {
			if path.Dir(name) == file {
				list = append(list, map[string]string{"pathSuffix": path.Base(name), "type": "FILE"})
			}
		}
		if list == nil {
			except(w, http.StatusNotFound, "FileNotFoundException")
			return
		}
		answer = map[string]any{"FileStatuses": map[string]any{"FileStatus": list}}
	default:
		except(w, http.StatusBadRequest, "UnsupportedOperationException")
		return
	}
	if c.refuses(w, op, file, false, act) {
		return
	}
	act()
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		c.t.Error(err)
	}
}

func (c *cluster) dataNode(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	op, file := r.URL.Query().Get("op"), strings.TrimPrefix(r.URL.Path, "/webhdfs/v1")
	if c.gate != nil {
		c.gate(op)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	act := func() { c.files[file] += string(body) }
	if c.refuses(w, op, file, true, act) {
		return
	}
	_, here := c.files[file]
	switch {
	case op == "CREATE" && here:
		except(w, http.StatusForbidden, "FileAlreadyExistsException")
	case op == "APPEND" && !here:
		except(w, http.StatusNotFound, "FileNotFoundException")
	default:
		act()
		w.WriteHeader(map[string]int{"CREATE": http.StatusCreated, "APPEND": http.StatusOK}[op])
	}
}

// names are the files there are.
func (c *cluster) names() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(maps.Keys(c.files))
}

func (c *cluster) text(file string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.files[file]
}

func (c *cluster) did(op string) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, x := range c.ops {
		if x == op {
			n++
		}
	}
	return n
}

// policy is one that writes to the cluster.
func (c *cluster) policy() policies.Sink {
	u, err := url.Parse(c.name.URL)
	if err != nil {
		c.t.Fatal(err)
	}
	return policies.Sink{
		Name:   "archive",
		Budget: policies.Budget{Limit: limiter.Limit{Rate: limiter.Unlimited, Burst: 1}, Concurrency: 4},
		WebHDFS: &policies.WebHDFSSink{
			HTTP: policies.HTTPSink{URLs: []*url.URL{u}, ConnectTimeout: 10 * time.Second, Timeout: 30 * time.Second},
			Path: "/logs/dt={date}", Location: time.UTC, Compression: "none", User: "forebay",
			Roll: policies.Roll{MaxBytes: 100, MaxAge: time.Hour},
		},
	}
}

func newSink(t *testing.T, p policies.Sink) *webhdfs.Sink {
	t.Helper()
	s, err := webhdfs.New(p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.CloseIdleConnections)
	return s
}

// noon of the first day.
var noon = time.Date(2027, 11, 11, 12, 0, 0, 0, time.UTC)

// batch is messages with these bodies, from an offset on.
func batch(first uint64, at time.Time, bodies ...string) []drain.Delivery {
	var msgs []drain.Delivery
	for i, body := range bodies {
		msgs = append(msgs, drain.Delivery{Delivery: buffer.Delivery{
			Ref: buffer.Ref{Stream: "logs", Offset: first + uint64(i)}, AcceptedAt: at, Message: buffer.Message{Body: []byte(body)},
		}})
	}
	return msgs
}

// outcomes is a channel of what batches come to, and the function that fills it.
func outcomes() (chan drain.Outcome, func(drain.Outcome)) {
	ch := make(chan drain.Outcome, 100)
	return ch, func(o drain.Outcome) { ch <- o }
}

func wait(t *testing.T, ch chan drain.Outcome) drain.Outcome {
	t.Helper()
	select {
	case o := <-ch:
		return o
	case <-time.After(time.Minute):
		t.Fatal("nothing was settled in a minute")
		return drain.Outcome{}
	}
}
