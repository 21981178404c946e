package main

import (
	"bytes"
	"net/http"
	"strings"
	"testing"
	"time"
)

// The endpoint counts what it answered, and refuses what is no bulk request.
func TestBulkEndpoint(t *testing.T) {
	e, err := listenBulk()
	if err != nil {
		t.Fatal(err)
	}
	defer e.close()
	client := http.Client{Timeout: 10 * time.Second}
	const one = "{\"create\":{\"_index\":\"logs-1\",\"_id\":\"a\"}}\n{}\n"
	for _, tt := range []struct {
		body   string
		status int
	}{
		{one + one, 200},
		{strings.TrimSuffix(one, "\n"), 400},
		{strings.Replace(one, "create", "index", 1), 400},
		{strings.Replace(one, "{}", "x", 1), 400},
	} {
		resp, err := client.Post("http://"+e.addr()+"/_bulk", "application/x-ndjson", strings.NewReader(tt.body))
		if err != nil {
			t.Fatal(err)
		}
		var text bytes.Buffer
		if _, err := text.ReadFrom(resp.Body); err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if want := `{"errors":false,"items":[{"create":{"status":201}},{"create":{"status":201}}]}`; resp.StatusCode != tt.status || tt.status == 200 && text.String() != want {
			t.Errorf("%q = %d %s, want %d", tt.body, resp.StatusCode, &text, tt.status)
		}
	}
	if got := e.took.Load(); got != 2 || e.fault.Load() == nil {
		t.Errorf("%d documents, fault %v; want 2 and the first fault", got, e.fault.Load())
	}
}
