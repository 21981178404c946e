package parts

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// program builds the program once for all tests of a package, at a fixed place:
// the next run links it anew only when it changed.
var program = sync.OnceValues(func() (string, error) {
	top, err := root()
	if err != nil {
		return "", err
	}
	path := filepath.Join(top, "bin", "test", "forebay")
	cmd := exec.Command("go", "build", "-buildvcs=false", "-o", path, "./cmd/forebay")
	cmd.Dir, cmd.Env = top, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the program: %w\n%s", err, out)
	}
	return path, nil
})

// ForebayOptions are the settings of an installation. The zero value will do.
type ForebayOptions struct {
	Config string   // forebay.yaml; quick to stop
	Env    []string // more of its environment, NAME=value
}

// Forebay is one installation of the program. A restart keeps its data and
// addresses.
type Forebay struct {
	Process
	Public, Admin string // http://host:port
	Dir           string // its files: forebay.yaml, policy.yaml and data
}

// StartForebay starts the program with that policy.
func StartForebay(t testing.TB, policy string, o ForebayOptions) *Forebay {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	public, admin := local(freePort(t)), local(freePort(t))
	f := &Forebay{Public: "http://" + public, Admin: "http://" + admin, Dir: t.TempDir()}
	config := filepath.Join(f.Dir, "forebay.yaml")
	write(t, config, "%s", cmp.Or(o.Config, "version: 1\nshutdown: { delay: 200ms, timeout: 5s }\n"))
	write(t, f.policyFile(), "%s", policy)
	f.Process = Process{t: t, name: "forebay", within: time.Minute, command: func() *exec.Cmd {
		cmd := exec.Command(path, "serve", "--config", config, "--policies", f.policyFile(),
			"--data", filepath.Join(f.Dir, "data"), "--listen", public, "--admin", admin)
		cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "FOREBAY_") })
		cmd.Env = append(cmd.Env, o.Env...)
		return cmd
	}}
	f.ready = func() bool {
		status, _, err := call(http.MethodGet, f.Admin+"/readyz", "", nil)
		return err == nil && status == http.StatusOK
	}
	f.start()
	return f
}

func (f *Forebay) policyFile() string { return filepath.Join(f.Dir, "policy.yaml") }

// Reload changes the policy of the running program.
func (f *Forebay) Reload(policy string) {
	f.t.Helper()
	next := filepath.Join(f.Dir, "next")
	write(f.t, next, "%s", policy)
	if err := os.Rename(next, f.policyFile()); err != nil {
		f.t.Fatal(err)
	}
	f.admin(http.MethodPost, "/api/v1/reload", nil)
}

// Post sends a body to a route and returns the answer.
func (f *Forebay) Post(path, contentType string, body []byte) (status int, answer []byte, err error) {
	return call(http.MethodPost, f.Public+path, contentType, body)
}

// A Stream is what the admin API says of one.
type Stream struct {
	Name     string `json:"name"`
	State    string `json:"state"`
	Messages int64  `json:"messages"`
	Bytes    int64  `json:"bytes"`
	Accepted int64  `json:"accepted_total"`
}

// A Drain is what the admin API says of one.
type Drain struct {
	Name      string `json:"name"`
	State     string `json:"state"`
	Pending   int64  `json:"pending"`
	InFlight  int64  `json:"in_flight"`
	Scheduled int64  `json:"scheduled"`
	Dead      int64  `json:"dead"`
	Delivered int64  `json:"delivered_total"`
	Binding   string `json:"binding"`
}

// An Account is one line of the audit.
type Account struct {
	Stream    string `json:"stream"`
	Drain     string `json:"drain"`
	Accepted  int64  `json:"accepted"`
	Delivered int64  `json:"delivered"`
	Expired   int64  `json:"expired"`
	Cancelled int64  `json:"cancelled"`
	Dead      int64  `json:"dead"`
	Buffered  int64  `json:"buffered"`
	Imbalance int64  `json:"imbalance"`
}

// A Source is what the admin API says of one.
type Source struct {
	Name       string `json:"name"`
	State      string `json:"state"`
	Lag        int64  `json:"lag"`
	Refused    int64  `json:"refused_total"`
	LastError  string `json:"last_error"`
	Partitions []struct {
		Next int64 `json:"next"` // the offset of the first record that is not stored
	} `json:"partitions"`
}

// A Why is what holds a drain.
type Why struct {
	Binding     string `json:"binding"`
	Constraints []struct {
		Name   string `json:"name"`
		Detail string `json:"detail"`
	} `json:"constraints"`
	Gathering []struct {
		Place    string `json:"place"`
		Messages int64  `json:"messages"`
		Bytes    int64  `json:"bytes"`
	} `json:"gathering"`
}

// Stream is how a stream is doing.
func (f *Forebay) Stream(name string) Stream {
	f.t.Helper()
	var all []Stream
	f.admin(http.MethodGet, "/api/v1/streams", &all)
	i := slices.IndexFunc(all, func(s Stream) bool { return s.Name == name })
	if i < 0 {
		f.t.Fatalf("streams = %+v, want %s among them", all, name)
	}
	return all[i]
}

// Source is how a source is doing.
func (f *Forebay) Source(name string) Source {
	f.t.Helper()
	var all []Source
	f.admin(http.MethodGet, "/api/v1/sources", &all)
	i := slices.IndexFunc(all, func(s Source) bool { return s.Name == name })
	if i < 0 {
		f.t.Fatalf("sources = %+v, want %s among them", all, name)
	}
	return all[i]
}

// Drain is how a drain is doing.
func (f *Forebay) Drain(name string) Drain {
	f.t.Helper()
	var d Drain
	f.admin(http.MethodGet, "/api/v1/drains/"+name, &d)
	return d
}

// Why is what holds a drain at present.
func (f *Forebay) Why(drain string) Why {
	f.t.Helper()
	var w Why
	f.admin(http.MethodGet, "/api/v1/drains/"+drain+"/why", &w)
	return w
}

// Audit is the account of a drain. All have to balance.
func (f *Forebay) Audit(drain string) Account {
	f.t.Helper()
	var got struct {
		Balanced bool      `json:"balanced"`
		Drains   []Account `json:"drains"`
	}
	f.admin(http.MethodGet, "/api/v1/audit", &got)
	i := slices.IndexFunc(got.Drains, func(a Account) bool { return a.Drain == drain })
	if !got.Balanced || i < 0 {
		f.t.Fatalf("audit = %+v, want a balance and %s in it", got, drain)
	}
	return got.Drains[i]
}

// Settle waits until a drain has nothing buffered any more, and returns its account.
func (f *Forebay) Settle(drain string, within time.Duration) Account {
	f.t.Helper()
	var last Account
	Until(f.t, within, "nothing is buffered for "+drain, func() bool {
		last = f.Audit(drain)
		return last.Buffered == 0
	})
	return last
}

// Metric reads one sample by its name and labels, as /metrics has them.
func (f *Forebay) Metric(series string) (value float64, found bool) {
	f.t.Helper()
	status, text, err := call(http.MethodGet, f.Admin+"/metrics", "", nil)
	if err != nil || status != http.StatusOK {
		f.t.Fatalf("GET /metrics = %d, %v", status, err)
	}
	for line := range bytes.Lines(text) {
		if rest, ok := bytes.CutPrefix(line, []byte(series+" ")); ok {
			if value, err = strconv.ParseFloat(string(bytes.TrimSpace(rest)), 64); err != nil {
				f.t.Fatalf("sample %q: %v", line, err)
			}
			return value, true
		}
	}
	return 0, false
}

// Command runs a client command of the program on this installation to its end.
func (f *Forebay) Command(args ...string) (output string, code int) {
	f.t.Helper()
	path, err := program()
	if err != nil {
		f.t.Fatal(err)
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), "FOREBAY_ADMIN_URL="+f.Admin)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		f.t.Fatalf("run forebay %v: %v", args, err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// admin sends a request to the admin API, which has to be answered 2xx, and reads
// the answer into to.
func (f *Forebay) admin(method, path string, to any) {
	f.t.Helper()
	status, answer, err := call(method, f.Admin+path, "", nil)
	if err != nil || status/100 != 2 {
		f.t.Fatalf("%s %s = %d, %v: %s", method, path, status, err, answer)
	}
	if to == nil {
		return
	}
	if err := json.Unmarshal(answer, to); err != nil {
		f.t.Fatalf("%s %s answered %s: %v", method, path, answer, err)
	}
}
