package app

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"forebay/cmd/forebay/admin"
	"forebay/cmd/forebay/config"
	"forebay/drain"
)

// act sends a request to the admin API and reads its answer into v.
func (r *running) act(t *testing.T, method, path, body string, v any) int {
	t.Helper()
	req, err := http.NewRequest(method, "http://"+r.Admin()+"/api/v1"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if v != nil && resp.StatusCode == http.StatusOK {
		if err := json.Unmarshal(raw, v); err != nil {
			t.Fatalf("%s %s = %s: %v", method, path, raw, err)
		}
	}
	return resp.StatusCode
}

// events are the operator log's, as "kind object actor reason detail".
func (r *running) events(t *testing.T) (list []string) {
	t.Helper()
	var page admin.Page[admin.Event]
	r.get(t, "/api/v1/events?limit=1000", &page)
	for _, e := range page.Items {
		list = append(list, strings.Join([]string{e.Kind, e.Object, e.Actor, e.Reason, e.Detail}, " | "))
	}
	return list
}

func (r *running) drain(t *testing.T) admin.Drain {
	t.Helper()
	var d admin.Drain
	if code := r.get(t, "/api/v1/drains/orders", &d); code != http.StatusOK {
		t.Fatalf("GET /drains/orders = %d", code)
	}
	return d
}

// metric is the sample of a family that has a label with that value.
func (r *running) metric(t *testing.T, family, label string) float64 {
	t.Helper()
	families, err := r.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if f.GetName() == family && l.GetValue() == label {
					return m.GetGauge().GetValue() + m.GetCounter().GetValue()
				}
			}
		}
	}
	t.Fatalf("no %s of %s", family, label)
	return 0
}

// postCode posts an order and returns the status and body of the answer.
func (r *running) postCode(t *testing.T, body string) (int, string) {
	t.Helper()
	resp, err := http.Post("http://"+r.Public()[0]+"/v1/orders", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(raw)
}

func TestHoldsSurviveAndEnd(t *testing.T) {
	s := newShop(t)
	data := config.Flag{Setting: "buffer.dir", Value: filepath.Join(t.TempDir(), "data")}
	one := start(t, policyText(s.url, "1000/s"), data)
	if code := one.act(t, "POST", "/drains/orders/pause", `{"reason":"INC-1"}`, nil); code != http.StatusOK {
		t.Fatalf("pause = %d", code)
	}
	if code := one.act(t, "PUT", "/drains/orders/rate", `{"rate":"50/s","for_seconds":3600,"reason":"INC-2"}`, nil); code != http.StatusOK {
		t.Fatalf("rate = %d", code)
	}
	if code := one.act(t, "POST", "/streams/orders/close", `{"for_seconds":3600,"reason":"INC-3"}`, nil); code != http.StatusOK {
		t.Fatalf("close = %d", code)
	}
	if code, body := one.postCode(t, "x"); code != http.StatusServiceUnavailable || !strings.Contains(body, "stream-closed") {
		t.Errorf("POST to a closed stream = %d %s, want 503 stream-closed", code, body)
	}
	one.cancel()
	if err := <-one.ended; err != nil {
		t.Fatal(err)
	}

	two := start(t, policyText(s.url, "1000/s"), data)
	d := two.drain(t)
	if d.State != "paused" || d.Binding != "paused" || d.Paused == nil || d.Paused.Reason != "INC-1" {
		t.Errorf("after a restart the drain is %+v, want paused", d)
	}
	if d.Override == nil || d.Override.Rate != 50 || d.Override.Reason != "INC-2" {
		t.Errorf("after a restart the override is %+v, want 50/s", d.Override)
	}
	var streams []admin.Stream
	two.get(t, "/api/v1/streams", &streams)
	if len(streams) != 1 || streams[0].State != "closed" || streams[0].Closed == nil || streams[0].Closed.Reason != "INC-3" {
		t.Errorf("after a restart the stream is %+v, want closed", streams)
	}
	for _, path := range []string{"POST /drains/orders/resume", "DELETE /drains/orders/rate", "POST /streams/orders/open"} {
		method, path, _ := strings.Cut(path, " ")
		if code := two.act(t, method, path, "", nil); code != http.StatusOK {
			t.Errorf("%s %s = %d, want 200", method, path, code)
		}
	}
	two.post(t, "y")
	until(t, "the shop has the order", func() bool { return len(s.got()) == 1 })

	if code := two.act(t, "POST", "/streams/orders/close", `{"for_seconds":0.05,"reason":"INC-4"}`, nil); code != http.StatusOK {
		t.Fatalf("close = %d", code)
	}
	until(t, "the stream opens by itself, and that is an event", func() bool {
		return slices.ContainsFunc(two.events(t), func(e string) bool { return e == "stream-open | orders | forebay | INC-4 | its time is over" })
	})
	if code, body := two.postCode(t, "z"); code != http.StatusAccepted {
		t.Errorf("POST to the stream that opened by itself = %d %s", code, body)
	}
	var kinds []string
	for _, e := range two.events(t) {
		kind, rest, _ := strings.Cut(e, " | ")
		kinds = append(kinds, kind)
		if kind == "drain-pause" && !strings.HasPrefix(rest, "orders | local | INC-1") {
			t.Errorf("event = %s", e)
		}
	}
	want := []string{
		"start", "drain-pause", "drain-rate", "stream-close", "start", "drain-resume", "drain-rate-clear", "stream-open",
		"stream-close", "stream-open",
	}
	if diff := cmp.Diff(want, kinds); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestActsRefused(t *testing.T) {
	r := start(t, policyText(newShop(t).url, "1/s"))
	tests := map[string]int{
		"POST /drains/nope/pause {\"reason\":\"x\"}":                                     404,
		"POST /drains/orders/pause {}":                                                   400,
		"POST /drains/nope/resume":                                                       404,
		"PUT /drains/orders/rate {\"rate\":5,\"reason\":\"x\"}":                          400, // for how long?
		"PUT /drains/orders/rate {\"for_seconds\":5,\"reason\":\"x\"}":                   400,
		"PUT /drains/orders/rate {\"rate\":\"fast\",\"for_seconds\":5,\"reason\":\"x\"}": 400,
		"PUT /drains/nope/rate {\"rate\":5,\"for_seconds\":5,\"reason\":\"x\"}":          404,
		"DELETE /drains/nope/rate":                                                       404,
		"POST /drains/orders/drop":                                                       400,
		"POST /drains/nope/drop {\"reason\":\"x\"}":                                      404,
		"POST /streams/nope/close {\"reason\":\"x\"}":                                    404,
		"POST /streams/orders/close":                                                     400,
		"POST /streams/nope/open":                                                        404,
		"POST /streams/nope/drop {\"reason\":\"x\"}":                                     404,
		"POST /streams/nope/cancel {\"key\":\"k\"}":                                      404,
		"POST /streams/orders/cancel":                                                    400,
		"GET /streams/nope/messages?key=k":                                               404,
		"GET /drains/nope/why":                                                           404,
		"GET /windows?drain=nope":                                                        404,
		"GET /dead":                                                                      400,
		"GET /dead?drain=nope":                                                           404,
		"GET /dead?drain=orders&after=x":                                                 400,
		"GET /dead?drain=orders&died_of=boredom":                                         400,
		"GET /dead/aaaaaaaaaaaaaaaaaaaaaaaaaa":                                           404,
		"POST /dead/replay {\"drain\":\"orders\",\"rate\":5}":                            400,
		"POST /dead/replay {}":                                                           400,
		"POST /dead/replay {\"drain\":\"orders\",\"ids\":[\"nope\"]}":                    404,
		"DELETE /dead {\"drain\":\"nope\"}":                                              404,
	}
	before := len(r.events(t))
	for line, want := range tests {
		method, rest, _ := strings.Cut(line, " ")
		path, body, _ := strings.Cut(rest, " ")
		if got := r.act(t, method, path, body, nil); got != want {
			t.Errorf("%s = %d, want %d", line, got, want)
		}
	}
	if after := r.events(t); len(after) != before {
		t.Errorf("what was refused is in the operator log: %v", after[before:])
	}
}

// moody is an order service that answers with the status it is set to.
func moody(t *testing.T, status *atomic.Int64) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(int(status.Load()))
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

func TestDeadLetters(t *testing.T) {
	var status atomic.Int64
	status.Store(http.StatusUnprocessableEntity)
	r := start(t, policyText(moody(t, &status), "1000/s"))
	var ids []string
	for i := range 5 {
		ids = append(ids, r.post(t, fmt.Sprintf(`{"order":%d}`, i)))
	}
	until(t, "all are dead", func() bool { return r.drain(t).Dead == 5 })

	// In pages of two, and all in one.
	var got []string
	next := ""
	for pages := 0; ; pages++ {
		var page admin.Page[admin.Dead]
		r.get(t, "/api/v1/dead?drain=orders&limit=2&after="+next, &page)
		for _, d := range page.Items {
			got = append(got, d.ID)
			if d.Reason != "permanent" || d.Status != 422 || d.Attempts != 1 || d.Drain != "orders" || d.FirstAttemptAt.IsZero() || d.BuriedAt.Before(d.FirstAttemptAt.Time) || d.LastError == "" {
				t.Errorf("dead letter = %+v", d)
			}
		}
		if page.Next == nil || pages > 5 {
			break
		}
		next = *page.Next
	}
	slices.Sort(got)
	if diff := cmp.Diff(slices.Sorted(slices.Values(ids)), got); diff != "" {
		t.Errorf("dead letters (-want +got):\n%s", diff)
	}
	var page admin.Page[admin.Dead]
	r.get(t, "/api/v1/dead?drain=orders&died_of=max-age", &page)
	if len(page.Items) != 0 {
		t.Errorf("dead of max-age: %+v", page.Items)
	}

	var one admin.DeadMessage
	r.get(t, "/api/v1/dead/"+ids[3], &one)
	if !bytes.Equal(one.Body, []byte(`{"order":3}`)) || one.Method != "POST" || one.Target != "/v1/orders" || one.ID != ids[3] {
		t.Errorf("dead letter %s = %+v", ids[3], one)
	}

	status.Store(http.StatusOK)
	tests := []struct {
		name, method, path, body string
		want                     any
	}{
		{
			"dry run", "POST", "/dead/replay", `{"drain":"orders","dry_run":true}`,
			map[string]any{"drain": "orders", "matched": 5.0, "replayed": 0.0, "dry_run": true},
		},
		{
			"one", "POST", "/dead/replay", `{"drain":"orders","ids":["` + ids[0] + `"],"reason":"INC-1"}`,
			map[string]any{"drain": "orders", "matched": 1.0, "replayed": 1.0, "dry_run": false},
		},
		{
			"none so young", "POST", "/dead/replay", `{"drain":"orders","since":"2100-01-01T00:00:00Z"}`,
			map[string]any{"drain": "orders", "matched": 0.0, "replayed": 0.0, "dry_run": false},
		},
		{
			"drop one", "DELETE", "/dead", `{"drain":"orders","ids":["` + ids[1] + `"]}`,
			map[string]any{"drain": "orders", "matched": 1.0, "dropped": 1.0, "dry_run": false},
		},
		{
			"the rest", "POST", "/dead/replay", `{"drain":"orders","died_of":"permanent"}`,
			map[string]any{"drain": "orders", "matched": 3.0, "replayed": 3.0, "dry_run": false},
		},
	}
	for _, tt := range tests {
		var answer any
		if code := r.act(t, tt.method, tt.path, tt.body, &answer); code != http.StatusOK {
			t.Fatalf("%s = %d", tt.name, code)
		}
		if diff := cmp.Diff(tt.want, answer); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
	if got := r.metric(t, "forebay_drain_dead_messages_total", "permanent"); got != 5 {
		t.Errorf("forebay_drain_dead_messages_total after the replay = %v, want 5 that died", got)
	}
	until(t, "what was replayed is delivered", func() bool { return r.drain(t).DeliveredTotal == 4 })
	var audit admin.Audit
	r.get(t, "/api/v1/audit", &audit)
	want := admin.Audit{Balanced: true, Drains: []admin.Account{{Stream: "orders", Drain: "orders", Accepted: 5, Delivered: 4, Cancelled: 1}}}
	if diff := cmp.Diff(want, audit); diff != "" {
		t.Errorf("audit (-want +got):\n%s", diff)
	}
	wantEvents := []string{
		"dead-replay | orders | local | INC-1 | 1 of 1 message, by id",
		"dead-replay | orders | local |  | 0 of 0 messages, since 2100-01-01T00:00:00Z",
		"dead-drop | orders | local |  | 1 of 1 message, by id",
		"dead-replay | orders | local |  | 3 of 3 messages, died_of permanent",
	}
	if diff := cmp.Diff(wantEvents, r.events(t)[1:]); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// TestDeadLetterOfABatch: a dead letter shows the fields that its sink got.
func TestDeadLetterOfABatch(t *testing.T) {
	var status atomic.Int64
	status.Store(http.StatusUnprocessableEntity)
	r := start(t, strings.Replace(policyText(moody(t, &status), "1000/s"), "routes:\n", `routes:
  - { name: batches, match: { methods: [POST], path: /v1/batches }, mode: buffer, stream: orders, split: lines }
`, 1))
	r.send(t, "/v1/batches", "a\nb\nc", "Batch-Id: b-1")
	until(t, "all are dead", func() bool { return r.drain(t).Dead == 3 })
	var page admin.Page[admin.Dead]
	r.get(t, "/api/v1/dead?drain=orders", &page)
	var got []string
	for _, d := range page.Items {
		var one admin.DeadMessage
		r.get(t, "/api/v1/dead/"+d.ID, &one)
		i := slices.IndexFunc(one.Header, func(f [2]string) bool { return f[0] == "Forebay-Batch" })
		if i < 0 || !slices.IsSortedFunc(one.Header, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) }) {
			t.Fatalf("header of a dead letter of a batch is %v, want Forebay-Batch in its place", one.Header)
		}
		got = append(got, string(one.Body)+" "+one.Header[i][1])
	}
	slices.Sort(got)
	if diff := cmp.Diff([]string{"a b-1; index=0", "b b-1; index=1", "c b-1; index=2"}, got); diff != "" {
		t.Errorf("dead letters (-want +got):\n%s", diff)
	}
}

func keyedPolicy(sink string) string {
	return strings.Replace(policyText(sink, "0"), "  - name: orders\ndrains", "  - name: orders\n    ordering_key: [\"json:/customer\"]\ndrains", 1)
}

func TestByKey(t *testing.T) {
	r := start(t, keyedPolicy(newShop(t).url))
	a1, _, a2 := r.post(t, `{"customer":"a","n":1}`), r.post(t, `{"customer":"b","n":2}`), r.post(t, `{"customer":"a","n":3}`)
	var found []struct{ ID, State string }
	r.get(t, "/api/v1/streams/orders/messages?key=a", &found)
	if len(found) != 2 || found[0].ID != a1 || found[1].ID != a2 || found[0].State != "queued" {
		t.Errorf("messages of a = %+v, want %s and %s, queued", found, a1, a2)
	}
	var n admin.Cancelled
	if code := r.act(t, "POST", "/streams/orders/cancel", `{"key":"a","reason":"sold out"}`, &n); code != 200 || n.Cancelled != 2 {
		t.Errorf("cancel = %d %+v, want 2", code, n)
	}
	if code := r.act(t, "POST", "/drains/orders/drop", `{"reason":"INC-9"}`, &n); code != 200 || n.Cancelled != 1 {
		t.Errorf("drop = %d %+v, want 1", code, n)
	}
	want := []string{
		"stream-cancel | orders | local | sold out | 2 messages cancelled",
		"drain-drop | orders | local | INC-9 | 1 message cancelled",
	}
	if diff := cmp.Diff(want, r.events(t)[1:]); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// TestWhyAgrees holds the three places that tell what binds to one another.
func TestWhyAgrees(t *testing.T) {
	r := start(t, policyText(newShop(t).url, "0"))
	id := r.post(t, "x")
	r.wantWhy(t, "schedule", id)
	second := r.post(t, "y")
	var why admin.Why
	r.get(t, "/api/v1/drains/orders/why?message="+second, &why)
	want := &admin.Standing{Head: admin.Head{ID: second, State: "queued", WaitsFor: "schedule"}, Ahead: 1}
	if diff := cmp.Diff(want, why.Message); diff != "" {
		t.Errorf("the second message (-want +got):\n%s", diff)
	}
	if code := r.get(t, "/api/v1/drains/orders/why?message=nope", &why); code != http.StatusNotFound {
		t.Errorf("why of no message: %d", code)
	}
	r.act(t, "POST", "/drains/orders/pause", `{"reason":"INC-1"}`, nil)
	r.wantWhy(t, "paused", id)
}

// What a sink asks for binds in all three places too.
func TestWhyAgreesOnWhatASinkAsksFor(t *testing.T) {
	for field, asks := range map[string]struct {
		value   string
		status  int
		binding string
	}{
		"Forebay-Rate": {"0/s", 200, "rate-header"},
		"RateLimit":    {`"all";r=0;t=600`, 200, "rate-header"},
		"Retry-After":  {"600", 503, "retry-after"},
	} {
		t.Run(field, func(t *testing.T) {
			sink := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set(field, asks.value)
				w.WriteHeader(asks.status)
			}))
			defer sink.Close()
			r := start(t, policyText(sink.URL, "1000/s"))
			r.post(t, "x")
			until(t, "the sink has answered", func() bool { d := r.drain(t); return d.DeliveredTotal+d.Scheduled == 1 })
			id := r.post(t, "y")
			if asks.status != 200 {
				id = "" // the first one is the oldest still
			}
			r.wantWhy(t, asks.binding, id)
		})
	}
}

// wantWhy checks what binds the drain at a rate of 0; id is its oldest message, or empty.
func (r *running) wantWhy(t *testing.T, binding, id string) {
	t.Helper()
	var why admin.Why
	r.get(t, "/api/v1/drains/orders/why", &why)
	if d := r.drain(t); why.Binding != binding || d.Binding != binding || why.Rate != 0 || d.PermittedRate != 0 {
		t.Errorf("why = %+v, drain = %+v, want %s and rate 0", why, d, binding)
	}
	if diff := cmp.Diff(&admin.Head{ID: id, State: "queued", WaitsFor: binding}, why.Head); id != "" && diff != "" {
		t.Errorf("head (-want +got):\n%s", diff)
	}
	if !slices.ContainsFunc(why.Constraints, func(c admin.Constraint) bool { return c.Name == binding }) {
		t.Errorf("%s is not among the constraints: %+v", binding, why.Constraints)
	}
	for _, name := range drain.Constraints() {
		want := 0.0
		if string(name) == binding {
			want = 1
		}
		if got := r.metric(t, "forebay_drain_binding", string(name)); got != want {
			t.Errorf("forebay_drain_binding of %s = %v while %s binds", name, got, binding)
		}
	}
}
