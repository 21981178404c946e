package parts_test

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"forebay/test/integration/parts"
)

// logLines are what goes wrong first where an agent quotes.
var logLines = []string{
	`Jun 14 15:16:01 combo sshd(pam_unix)[19939]: authentication failure; logname= uid=0`,
	`a "quoted" word, a back\slash, 50 % and <brackets>`,
	`naïve, 订单, 🛒`,
	`the last`,
}

func logFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "app.log")
	if err := os.WriteFile(path, []byte(strings.Join(logLines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A receiver writes down the lines that are posted to it, as they are or as an
// array of JSON.
type receiver struct {
	*httptest.Server
	mu    sync.Mutex
	lines []string // guarded by mu
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body := io.Reader(req.Body)
		if req.Header.Get("Content-Encoding") == "gzip" {
			unzipped, err := gzip.NewReader(req.Body)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			body = unzipped
		}
		text, err := io.ReadAll(body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		var array []string
		if json.Unmarshal(text, &array) != nil {
			array = strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
		}
		r.lines = append(r.lines, array...)
	}))
	t.Cleanup(r.Close)
	return r
}

// wantLines waits until the lines of the log have come, as they are in the file.
func (r *receiver) wantLines(t *testing.T) {
	t.Helper()
	parts.Until(t, time.Minute, "all lines have come", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.lines) >= len(logLines)
	})
	if !slices.Equal(r.lines, logLines) {
		t.Errorf("lines = %q, want those of the file", r.lines)
	}
}

func TestSyslogNG(t *testing.T) {
	r := newReceiver(t)
	parts.StartSyslogNG(t, fmt.Sprintf(`
source s { file(%q flags(no-parse) follow-freq(1) read-old-records(yes)); };
destination d { http(url(%q) method("POST") body("${MESSAGE}") delimiter("\n") batch-lines(100) batch-timeout(100)); };
log { source(s); destination(d); flags(flow-control); };
`, logFile(t), r.URL))
	r.wantLines(t)
}

func TestTelegraf(t *testing.T) {
	r := newReceiver(t)
	parts.StartTelegraf(t, fmt.Sprintf(`
[agent]
  interval = "1s"
  flush_interval = "1s"
[[inputs.tail]]
  files = [%q]
  initial_read_offset = "beginning"
  data_format = "value"
  data_type = "string"
[[outputs.http]]
  url = %q
  content_encoding = "gzip"
  data_format = "json"
  json_transformation = "[metrics.fields.value]"
`, logFile(t), r.URL))
	r.wantLines(t)
}

// TestOpenSearchClients: what rsyslog and opensearch-py send is in the index.
func TestOpenSearchClients(t *testing.T) {
	s := parts.StartOpenSearch(t, parts.SearchOptions{})
	at, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	parts.StartRsyslog(t, fmt.Sprintf(`
module(load="imfile")
module(load="omelasticsearch")
template(name="document" type="list" option.jsonf="on") { property(outname="message" name="msg" format="jsonf") }
input(type="imfile" File=%q Tag="app")
action(type="omelasticsearch" server="127.0.0.1" serverport=%q searchIndex="rsyslog" searchType="" template="document" bulkmode="on")
`, logFile(t), at.Port()))

	lines, err := json.Marshal(logLines)
	if err != nil {
		t.Fatal(err)
	}
	out, err := parts.Python(t, `
import json, sys
from opensearchpy import OpenSearch, helpers
client = OpenSearch(sys.argv[1])
actions = ({"_index": "python", "_source": {"message": line}} for line in json.loads(sys.argv[2]))
print(sum(ok for ok, _ in helpers.streaming_bulk(client, actions)))
`, s.URL, string(lines)).CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != fmt.Sprint(len(logLines)) {
		t.Fatalf("opensearch-py printed %q, %v", out, err)
	}
	want := slices.Sorted(slices.Values(logLines))
	for _, index := range []string{"python", "rsyslog"} {
		var got []string
		parts.Until(t, time.Minute, "all lines are in the index "+index, func() bool {
			got = messages(t, s.Documents(index+"*"))
			return len(got) >= len(logLines)
		})
		if !slices.Equal(got, want) {
			t.Errorf("messages of %s = %q, want the lines", index, got)
		}
	}
}

// messages are those of documents, sorted.
func messages(t *testing.T, all []parts.Document) []string {
	t.Helper()
	var got []string
	for _, d := range all {
		var source struct{ Message string }
		if err := json.Unmarshal(d.Source, &source); err != nil {
			t.Fatalf("document %s: %v", d.Source, err)
		}
		got = append(got, source.Message)
	}
	slices.Sort(got)
	return got
}
