// Package intake_test holds that real agents, configured as the documentation shows,
// bring every line of real logs through Forebay as it is.
package intake_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"forebay/test/integration/parts"
)

// logs are real ones, of CRLF lines. FOREBAY_LOGS names a folder of more.
func logs(t *testing.T) (files []string) {
	t.Helper()
	dir := os.Getenv("FOREBAY_LOGS")
	if dir == "" {
		dir = "../../bench/testdata/logs"
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil || len(files) < 3 {
		t.Fatalf("%s has the logs %v (%v), want three", dir, files, err)
	}
	return files
}

// withoutCR are lines whose ends are taken for CRLF.
func withoutCR(lines []string) (cut []string) {
	for _, line := range lines {
		cut = append(cut, strings.TrimSuffix(line, "\r"))
	}
	return cut
}

// shown is a block of the documentation: that of a language with a name.
func shown(t *testing.T, name string) string {
	t.Helper()
	page, err := os.ReadFile("../../../docs/logs.md")
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?ms)^```[a-z]+ " + regexp.QuoteMeta(name) + "\n(.*?)^```$").FindSubmatch(page)
	if block == nil {
		t.Fatalf("docs/logs.md shows no %s", name)
	}
	return string(block[1])
}

// A site is Forebay with the policy that the documentation shows, and the service behind it.
type site struct {
	*parts.Forebay
	t     *testing.T
	mu    sync.Mutex
	lines []string // guarded by mu; the messages that were delivered, in their order
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t}
	store := httptest.NewServer(http.HandlerFunc(s.receive))
	t.Cleanup(store.Close)
	// One request at a time, so that they come in the order of the stream.
	policy := strings.NewReplacer("http://127.0.0.1:9000", store.URL, "rate: 20000/s", "concurrency: { mode: fixed, max: 1 }").Replace(shown(t, "logs.yaml"))
	s.Forebay = parts.StartForebay(t, policy, parts.ForebayOptions{})
	return s
}

func (s *site) receive(w http.ResponseWriter, r *http.Request) {
	var record struct{ Message *string }
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = json.Unmarshal(body, &record)
	}
	if err != nil || record.Message == nil {
		http.Error(w, fmt.Sprintf("no message in %q: %v", body, err), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, *record.Message)
}

// got is what was delivered so far.
func (s *site) got() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.lines)
}

// configure has an agent's configuration speak to this site about that file.
func (s *site) configure(config, file string) string {
	host := strings.TrimPrefix(s.Public, "http://")
	return strings.NewReplacer("127.0.0.1:8080", host, "/var/log/app.log", file).Replace(config)
}

// want waits until the lines have come, and no others.
func (s *site) want(lines []string) {
	s.t.Helper()
	parts.Until(s.t, 2*time.Minute, fmt.Sprintf("%d lines have come", len(lines)), func() bool { return len(s.got()) >= len(lines) })
	s.Settle("logs-to-store", time.Minute)
	got := s.got()
	for i := range min(len(got), len(lines)) {
		if got[i] != lines[i] {
			s.t.Fatalf("line %d of %d is %q, want %q", i+1, len(lines), got[i], lines[i])
		}
	}
	if len(got) != len(lines) {
		s.t.Errorf("%d lines have come, want %d", len(got), len(lines))
	}
	if account := s.Audit("logs-to-store"); account.Dead != 0 {
		s.t.Errorf("account = %+v, want none dead", account)
	}
}

// close and open the stream's intake: agents are answered 503 meanwhile.
func (s *site) intake(verb string) {
	s.t.Helper()
	if out, code := s.Command("streams", verb, "logs", "--reason", "a test"); code != 0 {
		s.t.Fatalf("streams %s: exit %d: %s", verb, code, out)
	}
}

// refused waits until so many requests of a route were answered 503.
func (s *site) refused(route string, least float64) {
	s.t.Helper()
	parts.Until(s.t, time.Minute, "requests are refused", func() bool {
		n, _ := s.Metric(fmt.Sprintf(`forebay_ingress_refusals_total{reason="stream-closed",route=%q}`, route))
		return n >= least
	})
}

// each runs a test with every log, and with one line of what agents may mistake.
func each(t *testing.T, run func(t *testing.T, file string, lines []string)) {
	hard := filepath.Join(t.TempDir(), "hard.log")
	text := "a \"quoted\" word, a back\\slash, 50 % ${MESSAGE} $HOST\nnaïve, 订单, 🛒\n<brackets> & 'quotes'\n{\"json\":[1,2]}\nthe last\n"
	if err := os.WriteFile(hard, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range append(logs(t), hard) {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".log"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			text = append(bytes.TrimSuffix(text, []byte("\n")), '\n') // agents wait for the end of a line
			path := filepath.Join(t.TempDir(), "app.log")
			if err := os.WriteFile(path, text, 0o600); err != nil {
				t.Fatal(err)
			}
			run(t, path, strings.Split(strings.TrimSuffix(string(text), "\n"), "\n"))
		})
	}
}

// patient agents are refused for a while, and lose nothing.
func patient(t *testing.T, block, route string, start func(t testing.TB, config string) *parts.Process) {
	t.Parallel()
	each(t, func(t *testing.T, file string, lines []string) {
		s := newSite(t)
		s.intake("close")
		start(t, s.configure(shown(t, block), file))
		s.refused(route, 2)
		s.intake("open")
		s.want(withoutCR(lines))
	})
}

func TestSyslogNGRecords(t *testing.T) {
	patient(t, "syslog-ng-records", "records", parts.StartSyslogNG)
}

func TestSyslogNGArrays(t *testing.T) { patient(t, "syslog-ng-arrays", "arrays", parts.StartSyslogNG) }

func TestTelegraf(t *testing.T) { patient(t, "telegraf", "arrays", parts.StartTelegraf) }

func TestRsyslog(t *testing.T) {
	each(t, func(t *testing.T, file string, lines []string) {
		s := newSite(t)
		config := strings.Replace(s.configure(shown(t, "rsyslog"), file), "/var/log/app.refused", file+".refused", 1)
		parts.StartRsyslog(t, config)
		s.want(lines)
	})
}

// TestRsyslogGivesUp is a control, and what the documentation warns of: what is refused
// is in its file of errors, and not sent again.
func TestRsyslogGivesUp(t *testing.T) {
	dir := t.TempDir()
	file, errors := filepath.Join(dir, "app.log"), filepath.Join(dir, "app.refused")
	if err := os.WriteFile(file, []byte("one line\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newSite(t)
	s.intake("close")
	parts.StartRsyslog(t, strings.Replace(s.configure(shown(t, "rsyslog"), file), "/var/log/app.refused", errors, 1))
	s.refused("bulk", 1)
	parts.Until(t, time.Minute, "the line is in the file of errors", func() bool {
		said, _ := os.ReadFile(errors)
		return bytes.Contains(said, []byte("one line")) && bytes.Contains(said, []byte("stream-closed"))
	})
	s.intake("open")
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("another\n"); err != nil {
		t.Fatal(err)
	}
	s.want([]string{"another"})
}

// TestOpenSearchPy: refused for a while too; an item that is refused is told alone; and
// what is sent again is stored once.
func TestOpenSearchPy(t *testing.T) {
	each(t, func(t *testing.T, file string, lines []string) {
		s := newSite(t)
		script := "import sys\nlines = open(sys.argv[1], encoding='utf-8', newline='\\n').read()[:-1].split('\\n')\n" +
			"lines.insert(3, 'x' * 70000)\n" + s.configure(shown(t, "opensearch-py"), file)
		s.intake("close")
		done := post(t, script, file)
		s.refused("bulk", 2)
		s.intake("open")
		done()
		s.want(lines)
		post(t, script, file)()
		s.want(lines)
	})
}

// post starts a script, which prints one item that is refused; done waits for its end.
func post(t *testing.T, script, file string) (done func()) {
	t.Helper()
	cmd := parts.Python(t, script, file)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		if err := cmd.Wait(); err != nil {
			t.Fatalf("%v: %s", err, out.String())
		}
		if said := out.String(); strings.Count(said, "\n") != 1 || !strings.Contains(said, "the document is over 65536 bytes") {
			t.Errorf("it printed %q, want the one item that is refused", said)
		}
	}
}
