package elasticsearch_test

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"forebay/buffer"
	"forebay/drain"
	"forebay/drain/sink/elasticsearch"
	"forebay/policies"
)

// cluster is a server that takes _bulk requests by the letter.
type cluster struct {
	*httptest.Server
	limit  int                              // bytes of a request, inflated; 0: none
	item   func(id string) (int, string)    // status and error of a document; nil: by what is there
	answer func(w http.ResponseWriter) bool // instead of all that, if it says so

	mu       sync.Mutex
	docs     map[string]document // by id; guarded by mu, like all that follows
	requests []*http.Request
	sizes    []int // of their documents
}

type document struct{ index, text string }

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{docs: make(map[string]document)}
	c.Server = httptest.NewServer(c)
	t.Cleanup(c.Close)
	return c
}

func (c *cluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		zip, err := gzip.NewReader(body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		body = zip
	}
	text, err := io.ReadAll(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests = append(c.requests, r)
	c.sizes = append(c.sizes, strings.Count(string(text), "\n")/2)
	switch {
	case c.answer != nil && c.answer(w):
	case c.limit > 0 && len(text) > c.limit:
		w.WriteHeader(http.StatusRequestEntityTooLarge)
	default:
		c.bulk(w, string(text))
	}
}

// bulk requires that mu is held.
func (c *cluster) bulk(w http.ResponseWriter, text string) {
	if !strings.HasSuffix(text, "\n") {
		http.Error(w, "no newline at the end", http.StatusBadRequest)
		return
	}
	var items []string
	lines := bufio.NewScanner(strings.NewReader(text))
	lines.Buffer(nil, 1<<30)
	for lines.Scan() {
		var action struct {
			Create *struct {
				Index string `json:"_index"`
				ID    string `json:"_id"`
			} `json:"create"`
		}
		if err := json.Unmarshal(lines.Bytes(), &action); err != nil || action.Create == nil || !lines.Scan() {
			http.Error(w, fmt.Sprintf("malformed action line %q: %v", lines.Text(), err), http.StatusBadRequest)
			return
		}
		items = append(items, `{"create":`+c.create(action.Create.Index, action.Create.ID, lines.Text())+"}")
	}
	fmt.Fprintf(w, `{"errors":%v,"items":[%s]}`, strings.Contains(text, "error"), strings.Join(items, ","))
}

// create requires that mu is held.
func (c *cluster) create(index, id, text string) string {
	status, cause := http.StatusCreated, ""
	if _, there := c.docs[id]; there {
		status, cause = http.StatusConflict, `{"type":"version_conflict_engine_exception","reason":"document already exists"}`
	} else if !json.Valid([]byte(text)) {
		status, cause = http.StatusBadRequest, `{"type":"mapper_parsing_exception","reason":"failed to parse"}`
	} else if c.item != nil {
		status, cause = c.item(id)
	}
	if cause != "" {
		return fmt.Sprintf(`{"status":%d,"error":%s}`, status, cause)
	}
	if status < 300 {
		c.docs[id] = document{index, text}
	}
	return fmt.Sprintf(`{"status":%d}`, status)
}

// seen returns what the cluster saw so far.
func (c *cluster) seen() (requests []*http.Request, sizes []int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.requests, c.sizes
}

// doc returns a document, zero where there is none.
func (c *cluster) doc(id string) document {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.docs[id]
}

// policyOf reads a sink's policy from the keys that follow its urls.
func policyOf(t *testing.T, keys string, urls ...string) policies.Sink {
	t.Helper()
	text := fmt.Sprintf("version: 1\nsinks: [{ name: search, elasticsearch: { urls: [%s], %s }, budget: { rate: unlimited } }]\n", strings.Join(urls, ", "), keys)
	set, mistakes := policies.Parse([]policies.File{{Name: "policy.yaml", Data: []byte(text)}})
	if len(mistakes) > 0 {
		t.Fatalf("policy:\n%v", mistakes)
	}
	return *set.Sink("search")
}

func newSink(t *testing.T, p policies.Sink) *elasticsearch.Sink {
	t.Helper()
	s, err := elasticsearch.New(p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.CloseIdleConnections)
	return s
}

// messages makes one of each body, with the ids m0, m1 and so on.
func messages(bodies ...string) []drain.Delivery {
	ms := make([]drain.Delivery, len(bodies))
	for i, body := range bodies {
		ms[i] = drain.Delivery{ID: fmt.Sprintf("m%d", i), Delivery: buffer.Delivery{
			Ref:        buffer.Ref{Stream: "logs", Offset: uint64(i)},
			AcceptedAt: time.Date(2026, 11, 11, 23, 30, 0, 5e6, time.UTC),
			Message:    buffer.Message{Method: "POST", Target: "/v1/logs", Body: []byte(body)},
		}}
	}
	return ms
}

// logs makes n small messages.
func logs(n int) []drain.Delivery {
	bodies := make([]string, n)
	for i := range bodies {
		bodies[i] = fmt.Sprintf(`{"n":%d}`, i)
	}
	return messages(bodies...)
}
