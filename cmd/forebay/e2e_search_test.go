package main_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// searchCluster takes _bulk requests and has no place for the documents that hold "bad".
type searchCluster struct {
	mu       sync.Mutex
	docs     map[string]string // by id; guarded by mu
	requests int               // guarded by mu
}

func (c *searchCluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	text, err := io.ReadAll(r.Body)
	if err != nil || r.URL.Path != "/_bulk" {
		http.Error(w, "no bulk", http.StatusNotFound)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests++
	var items []string
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	for pair := range slices.Chunk(lines, 2) {
		var action struct {
			Create struct {
				Index string `json:"_index"`
				ID    string `json:"_id"`
			} `json:"create"`
		}
		switch err := json.Unmarshal([]byte(pair[0]), &action); {
		case err != nil || action.Create.Index != "orders":
			items = append(items, `{"create":{"status":404}}`)
		case strings.Contains(pair[1], "bad"):
			items = append(items, `{"create":{"status":400,"error":{"type":"mapper_parsing_exception","reason":"failed to parse"}}}`)
		default:
			c.docs[action.Create.ID] = pair[1]
			items = append(items, `{"create":{"status":201}}`)
		}
	}
	fmt.Fprintf(w, `{"errors":true,"items":[%s]}`, strings.Join(items, ","))
}

// Lines become documents under the ids of their receipts, many in a request. What the
// cluster cannot take is dead alone, with its reason.
func TestSearchCluster(t *testing.T) {
	t.Parallel()
	c := &searchCluster{docs: make(map[string]string)}
	web := httptest.NewServer(c)
	defer web.Close()
	policy := strings.Replace(clauses{http: "index: orders, compression: none, bulk: { max_messages: 100 }", route: "split: ndjson"}.policy(web.URL, "unlimited"),
		"http: {", "elasticsearch: {", 1)
	srv := newSite(t, policy).start()
	var lines strings.Builder
	for i := range 500 {
		fmt.Fprintf(&lines, `{"n":%d}`+"\n", i)
	}
	lines.WriteString(`{"n":"bad"}`)
	r, err := newCaller(t, 1).send(http.MethodPost, srv.public+"/v1/orders", []byte(lines.String()),
		map[string]string{"Content-Type": "application/x-ndjson", "Prefer": "return=representation"})
	if err != nil || r.status != http.StatusAccepted {
		t.Fatalf("POST = %d, %v: %s", r.status, err, r.body)
	}
	var batch struct{ IDs []string }
	if err := json.Unmarshal(r.body, &batch); err != nil || len(batch.IDs) != 501 {
		t.Fatalf("%d ids (%v), want 501", len(batch.IDs), err)
	}
	if got := settle(t, srv, 20*time.Second); got.Delivered != 500 || got.Dead != 1 {
		t.Errorf("audit = %+v, want 500 delivered, one dead", got)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, id := range batch.IDs[:500] {
		if want := fmt.Sprintf(`{"n":%d}`, i); c.docs[id] != want {
			t.Fatalf("document %s = %q, want %q", id, c.docs[id], want)
		}
	}
	if len(c.docs) != 500 || c.requests > 20 {
		t.Errorf("%d documents in %d requests, want 500 in a few of up to a hundred", len(c.docs), c.requests)
	}
	dead, _, _ := command(t, "dead", "list", "--drain", "orders-to-shop", "-o", "json", "--admin-url", srv.admin)
	if want := "status 400 from " + strings.TrimPrefix(web.URL, "http://") + ": mapper_parsing_exception: failed to parse"; !strings.Contains(dead, want) {
		t.Errorf("dead letters = %s\nwant one of %q", dead, want)
	}
}
