package parts

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// SearchOptions are the settings of a search node. The zero value will do.
// To be answered 429 for items of a bulk, give thread_pool.write.size and
// thread_pool.write.queue_size 1 and make an index of 4 shards; for a whole
// bulk, send more than a tenth of the heap; 413, set http.max_content_length.
type SearchOptions struct {
	Heap     string            // the JVM's; 256m
	Settings map[string]string // the node's, over ours
}

// Search is one node of OpenSearch or Elasticsearch.
type Search struct {
	Process
	URL string // http://host:port
}

// StartOpenSearch starts a node of OpenSearch.
func StartOpenSearch(t testing.TB, o SearchOptions) *Search {
	t.Helper()
	return startSearch(t, "opensearch", o)
}

// StartElasticsearch starts a node of Elasticsearch.
func StartElasticsearch(t testing.TB, o SearchOptions) *Search {
	t.Helper()
	return startSearch(t, "elasticsearch", o)
}

func startSearch(t testing.TB, product string, o SearchOptions) *Search {
	t.Helper()
	dir, port := part(t, product), freePort(t)
	settings := map[string]string{
		"path.home":      t.TempDir(),
		"network.host":   "127.0.0.1",
		"http.port":      fmt.Sprint(port),
		"transport.port": fmt.Sprint(freePort(t)),
		"http.type":      "netty4",
		"transport.type": "netty4",
		"discovery.type": "single-node",
		"cluster.routing.allocation.disk.threshold_enabled": "false",
	}
	maps.Copy(settings, o.Settings)
	args := []string{"StartNode"}
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		args = append(args, name+"="+settings[name])
	}
	classpath := filepath.Join(dir, "classes") + ":" + filepath.Join(dir, "lib", "*")
	s := &Search{URL: "http://" + local(port)}
	s.Process = Process{t: t, name: product, within: 2 * time.Minute, command: func() *exec.Cmd {
		return java(t, cmp.Or(o.Heap, "256m"), classpath, args...)
	}}
	s.ready = s.serves
	s.start()
	return s
}

func (s *Search) serves() bool {
	status, _, err := call(http.MethodGet, s.URL+"/_cluster/health?wait_for_status=yellow&timeout=1s", "", nil)
	return err == nil && status == http.StatusOK
}

// Call sends a request with a JSON body, or none, and returns the answer, which
// has to be one of 2xx.
func (s *Search) Call(method, path, body string) []byte {
	s.t.Helper()
	status, answer, err := call(method, s.URL+path, "application/json", []byte(body))
	if err != nil || status/100 != 2 {
		s.t.Fatalf("%s %s at %s = %d, %v: %s", method, path, s.name, status, err, answer)
	}
	return answer
}

// CreateIndex makes an index without replicas. The mappings are JSON, or empty.
func (s *Search) CreateIndex(name string, shards int, mappings string) {
	s.t.Helper()
	s.Call(http.MethodPut, "/"+name, fmt.Sprintf(
		`{"settings": {"number_of_shards": %d, "number_of_replicas": 0}, "mappings": %s}`, shards, cmp.Or(mappings, "{}")))
}

// A Document is what an index holds under an id.
type Document struct {
	Index  string          `json:"_index"`
	ID     string          `json:"_id"`
	Source json.RawMessage `json:"_source"`
}

// Documents reads all that the indices of the pattern hold, in no order.
func (s *Search) Documents(pattern string) []Document {
	s.t.Helper()
	s.Call(http.MethodPost, "/"+pattern+"/_refresh", "")
	var all []Document
	answer := s.Call(http.MethodPost, "/"+pattern+"/_search?scroll=1m", `{"size": 5000, "sort": ["_doc"]}`)
	for {
		var page struct {
			Scroll string `json:"_scroll_id"`
			Hits   struct {
				Hits []Document `json:"hits"`
			} `json:"hits"`
		}
		if err := json.Unmarshal(answer, &page); err != nil {
			s.t.Fatalf("%s answered %s: %v", s.name, answer, err)
		}
		if len(page.Hits.Hits) == 0 {
			return all
		}
		all = append(all, page.Hits.Hits...)
		answer = s.Call(http.MethodPost, "/_search/scroll", fmt.Sprintf(`{"scroll": "1m", "scroll_id": %q}`, page.Scroll))
	}
}

// client follows no redirect, as nothing here may: who redirects is looked at.
var client = http.Client{
	Timeout:       time.Minute,
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// call sends one request and reads its answer.
func call(method, url, contentType string, body []byte) (status int, answer []byte, err error) {
	req, err := http.NewRequest(method, url, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	if contentType != "" && len(body) > 0 {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(resp.Body)
	return resp.StatusCode, answer, err
}

// Bulk sends lines of actions and documents and returns the status of each item.
func (s *Search) Bulk(lines ...string) []int {
	s.t.Helper()
	answer := s.Call(http.MethodPost, "/_bulk", strings.Join(lines, "\n")+"\n")
	var got struct {
		Items []map[string]struct {
			Status int `json:"status"`
		} `json:"items"`
	}
	if err := json.Unmarshal(answer, &got); err != nil {
		s.t.Fatalf("%s answered %s: %v", s.name, answer, err)
	}
	var statuses []int
	for _, item := range got.Items {
		for _, outcome := range item {
			statuses = append(statuses, outcome.Status)
		}
	}
	return statuses
}
