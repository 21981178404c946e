package logs_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	"forebay/test/integration/parts"
)

// cluster is a node of OpenSearch behind a door that writes down what comes, and can hold
// a request in the middle.
type cluster struct {
	*parts.Search
	door *httptest.Server

	mu       sync.Mutex
	came     []arrival   // guarded by mu, like all that follows
	statuses map[int]int // of documents
	hold     *hold       // the next request; nil: none
}

// arrival is what a request brought.
type arrival struct {
	at          time.Time
	docs, bytes int
}

// hold stops a request: half sent to the node, or with the node's answer not yet passed on.
type hold struct {
	answered bool
	held     chan struct{} // closed by the request once it is there
	release  chan struct{} // closed by the test: the request is cut off
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{statuses: make(map[int]int)}
	c.Search = parts.StartOpenSearch(t, parts.SearchOptions{Heap: "384m", Settings: map[string]string{"thread_pool.write.size": "1", "thread_pool.write.queue_size": "1"}})
	c.Call(http.MethodPut, "/_index_template/logs", `{"index_patterns": ["logs-*"], "template": {
		"settings": {"number_of_shards": 4, "number_of_replicas": 0},
		"mappings": {"properties": {"n": {"type": "integer"}}}}}`)
	c.door = httptest.NewServer(c)
	t.Cleanup(c.door.Close)
	return c
}

// holdNext holds the next request.
func (c *cluster) holdNext(answered bool) *hold {
	h := &hold{answered: answered, held: make(chan struct{}), release: make(chan struct{})}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hold = h
	return h
}

// wait returns once the request is in the middle.
func (h *hold) wait(t *testing.T) {
	t.Helper()
	select {
	case <-h.held:
	case <-time.After(time.Minute):
		t.Fatal("no bulk request has come to be held within a minute")
	}
}

func (c *cluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	at := time.Now()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler) // its sender was killed
	}
	docs, size := measure(body)
	c.mu.Lock()
	c.came = append(c.came, arrival{at, docs, size})
	h := c.hold
	c.hold = nil
	c.mu.Unlock()
	content := io.Reader(bytes.NewReader(body))
	if h != nil && !h.answered {
		content = io.MultiReader(bytes.NewReader(body[:len(body)/2]), stuck{h.held, h.release})
	}
	status, answer, err := c.forward(r, content, int64(len(body)))
	if h != nil && h.answered {
		close(h.held)
		<-h.release
	}
	if h != nil || err != nil {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(answer) // its sender may have been killed
}

// forward sends a request to the node, and counts what became of its documents.
func (c *cluster) forward(r *http.Request, body io.Reader, size int64) (status int, answer []byte, err error) {
	req, err := http.NewRequest(r.Method, c.URL+r.URL.RequestURI(), body)
	if err != nil {
		return 0, nil, err
	}
	req.Header, req.ContentLength = r.Header.Clone(), size
	req.Header.Del("Accept-Encoding")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	if answer, err = io.ReadAll(resp.Body); err != nil {
		return 0, nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return resp.StatusCode, answer, nil // which tells of no document
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range []int{http.StatusCreated, http.StatusBadRequest, http.StatusConflict, http.StatusTooManyRequests} {
		c.statuses[s] += bytes.Count(answer, []byte(`"status":`+strconv.Itoa(s)))
	}
	return resp.StatusCode, answer, nil
}

// stuck is the rest of a body that does not come.
type stuck struct {
	reached chan struct{} // closed at the first read
	release chan struct{}
}

func (s stuck) Read([]byte) (int, error) {
	close(s.reached)
	<-s.release
	return 0, errors.New("cut off")
}

// measure counts the documents of a bulk body, and their bytes.
func measure(body []byte) (docs, size int) {
	zip, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return 0, 0 // no bulk of ours
	}
	text, err := io.ReadAll(zip)
	if err != nil {
		return 0, 0
	}
	action := true
	for line := range bytes.Lines(text) {
		if !action {
			docs, size = docs+1, size+len(line)-1
		}
		action = !action
	}
	return docs, size
}

// seen is what came so far, and how often documents had which status.
func (c *cluster) seen() (came []arrival, statuses map[int]int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.came, c.statuses
}

// most is the most documents and bytes that came in any stretch of a length.
func most(came []arrival, span time.Duration) (docs, size int) {
	var n, b, end int
	for _, first := range came {
		for end < len(came) && came[end].at.Sub(first.at) <= span {
			n, b = n+came[end].docs, b+came[end].bytes
			end++
		}
		docs, size = max(docs, n), max(size, b)
		n, b = n-first.docs, b-first.bytes
	}
	return docs, size
}
