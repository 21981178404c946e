package main

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"forebay/cmd/forebay/config"
)

// answer is what a fake admin API says to everything.
func answer(status int, contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

// asked is a fake that takes one request, written METHOD TARGET BODY.
func asked(t *testing.T, want, say string) http.HandlerFunc {
	t.Helper()
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if got := strings.TrimSpace(r.Method + " " + r.URL.RequestURI() + " " + string(body)); got != want || err != nil {
			t.Errorf("asked for %s (%v)\nwant      %s", got, err, want)
		}
		answer(200, "application/json", say)(w, r)
	}
}

// TestWhyMessage joins a drain and a message.
func TestWhyMessage(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		say := `{"drain":"d","rate":5,"binding":"schedule","constraints":[]}`
		if r.URL.RawQuery == "message=i" {
			say = `{"drain":"d","rate":5,"binding":"schedule","constraints":[],"message":{"id":"i","state":"queued","ahead":41,"waits_for":"schedule"}}`
		}
		if r.URL.Path == "/api/v1/receipts/i" {
			say = `{"id":"i","stream":"s","drains":[{"drain":"d","state":"queued","position":41}]}`
		}
		answer(200, "application/json", say)(w, r)
	}))
	defer srv.Close()
	for args, want := range map[string]string{
		"why d --message i":         "i is queued, with 41 messages ahead of it; it waits for: schedule",
		"why d --message i -o json": `"position": 41`,
		"why other --message i":     "",
	} {
		var stdout, stderr bytes.Buffer
		code := run(t.Context(), append(strings.Fields(args), "--admin-url", srv.URL), nil, &stdout, &stderr)
		if (code == exitDone) != (want != "") || !strings.Contains(stdout.String(), want) {
			t.Errorf("forebay %s = %d\n%s%s\nwant %q", args, code, &stdout, &stderr, want)
		}
	}
}

func TestClient(t *testing.T) {
	const balanced = `{"balanced":true,"drains":[{"stream":"s","drain":"d","accepted":2,"delivered":1,"buffered":1}]}`
	tests := []struct {
		name   string
		args   string
		server http.HandlerFunc
		code   int
		stdout string // in part
		stderr string // whole; URL stands for the server's
	}{
		{
			name: "balance", args: "audit", server: answer(200, "application/json", balanced),
			stdout: "The books balance.",
		},
		{
			name: "imbalance is an answer of no", args: "audit", code: exitNo,
			server: answer(200, "application/json", strings.Replace(balanced, "true", "false", 1)), stdout: "DO NOT BALANCE",
		},
		{
			name: "json is what the endpoint says", args: "audit -o json", server: answer(200, "application/json", balanced+"\n"),
			stdout: balanced + "\n",
		},
		{
			name: "a problem", args: "receipts get x", code: exitFailed,
			server: answer(404, "application/problem+json", `{"title":"No such receipt","detail":"It was never given out."}`),
			stderr: "error: no such receipt: It was never given out\n",
		},
		{
			name: "an unknown name", args: "why nope", code: exitFailed,
			server: answer(404, "application/problem+json", `{"title":"Not found","detail":"Drain nope: not found."}`),
			stderr: "error: drain nope: not found\n",
		},
		{
			name: "a title that the detail begins with", args: "audit", code: exitFailed,
			server: answer(409, "application/problem+json", `{"title":"Under way already","detail":"Under way already: another backup is being written."}`),
			stderr: "error: under way already: another backup is being written\n",
		},
		{
			name: "a title alone", args: "audit", code: exitFailed,
			server: answer(409, "application/problem+json", `{"title":"Under way already"}`),
			stderr: "error: under way already\n",
		},
		{
			name: "what the server takes for wrong use", args: "dead list --drain d --limit 0", code: exitUsage,
			server: answer(400, "application/problem+json", `{"title":"Bad request","detail":"limit goes from 1 to 1000."}`),
			stderr: "error: bad request: limit goes from 1 to 1000\nhint: --help says what the command takes\n",
		},
		{name: "no dead letters", args: "dead list --drain d", server: answer(200, "application/json", `{"items":[],"next":null}`), stdout: "No dead letters.\n"},
		{name: "no messages", args: "messages find --stream s --key k", server: answer(200, "application/json", `[]`), stdout: "No messages.\n"},
		{name: "no events", args: "events", server: answer(200, "application/json", `{"items":[],"next":"0"}`), stdout: "No events.\n"},
		{name: "no drains", args: "drains list", server: answer(200, "application/json", `[]`), stdout: "No drains.\n"},
		{
			name: "a receipt without drains", args: "receipts get x", stdout: "eta       none: no drain reads this stream yet\n",
			server: answer(200, "application/json", `{"id":"x","state":"queued","eta_note":"no drain reads this stream yet","drains":[]}`),
		},
		{
			name: "no token", args: "streams", code: exitFailed,
			server: answer(401, "application/problem+json", `{"title":"Token needed","detail":"Send it."}`),
			stderr: "error: token needed: Send it\nhint: pass --token-file\n",
		},
		{
			name: "something else listens there", args: "drains list", code: exitFailed,
			server: answer(200, "text/html", "<html>"),
			stderr: "error: URL does not answer as a Forebay admin API\nhint: check --admin-url\n",
		},
		{
			name: "a redirect is not followed", args: "streams", code: exitFailed,
			server: func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusFound)
			},
			stderr: "error: the server answered 302 Found\nhint: check --admin-url: the admin API would have said why\n",
		},
		{
			name: "not ready", args: "healthcheck", code: exitFailed, server: answer(503, "text/plain", "stopping\n"),
			stderr: "error: not ready: stopping\n",
		},
		{
			name: "another server is no news of this one", args: "healthcheck", code: exitFailed, server: answer(404, "text/html", "<html>\n<body>\n"),
			stderr: "error: the server answered 404 Not Found\nhint: check --admin-url: the admin API would have said why\n",
		},
		{
			name: "not ready in one line", args: "healthcheck", code: exitFailed, server: answer(503, "text/html", "<html>\n<body>\n"),
			stderr: "error: not ready: <html>\n",
		},
		{name: "ready", args: "healthcheck", server: answer(200, "text/plain", "ok\n"), stdout: "ready\n"},
		{
			name: "streams", args: "streams", stdout: "STREAM  STATE  MESSAGES     SIZE   CAPACITY  FULL  OLDEST  ACCEPTED\norders  open          3  1.5 KiB  unlimited     -       -         9\n",
			server: answer(200, "application/json", `[{"name":"orders","state":"open","messages":3,"bytes":1536,"capacity_bytes":"unlimited","accepted_total":9}]`),
		},
		{
			name: "drains", args: "drains list", stdout: "unlimited  empty",
			server: answer(200, "application/json", `[{"name":"d","permitted_rate":"unlimited","binding":"empty"}]`),
		},
		{
			name: "receipt", args: "receipts cancel x", stdout: "state     cancelled\n",
			server: func(w http.ResponseWriter, r *http.Request) {
				if r.Method != http.MethodDelete || r.URL.Path != "/api/v1/receipts/x" {
					t.Errorf("cancel asked for %s %s", r.Method, r.URL.Path)
				}
				answer(200, "application/json", `{"id":"x","state":"cancelled","position":null}`)(w, r)
			},
		},
		{
			name: "pause for a while", args: "drains pause d --for 20m --reason INC-1", stdout: "d is paused until 2027-",
			server: asked(t, `POST /api/v1/drains/d/pause {"reason":"INC-1","for_seconds":1200}`, `{"name":"d","until":"2027-11-11T12:00:00.000Z"}`),
		},
		{
			name: "pause until resumed", args: "drains pause d --reason x", stdout: "d is paused until 'forebay drains resume d'\n",
			server: asked(t, `POST /api/v1/drains/d/pause {"reason":"x"}`, `{"name":"d","until":null}`),
		},
		{
			name: "resume", args: "drains resume d", stdout: "d is not paused\n",
			server: asked(t, `POST /api/v1/drains/d/resume {}`, `{"name":"d","until":null}`),
		},
		{
			name: "rate", args: "drains rate d 3000/m --for 1d --reason x", stdout: "d goes at 50/s until 2027-",
			server: asked(t, `PUT /api/v1/drains/d/rate {"reason":"x","for_seconds":86400,"rate":50}`, `{"name":"d","until":"2027-11-11T12:00:00.000Z"}`),
		},
		{
			name: "rate unlimited", args: "drains rate d unlimited --for 1s --reason x -o json", stdout: `{"name":"d","until":null}`,
			server: asked(t, `PUT /api/v1/drains/d/rate {"reason":"x","for_seconds":1,"rate":"unlimited"}`, `{"name":"d","until":null}`),
		},
		{
			name: "rate cleared", args: "drains rate d --clear", stdout: "d keeps to its schedule\n",
			server: asked(t, `DELETE /api/v1/drains/d/rate {}`, `{"name":"d","until":null}`),
		},
		{
			name: "close", args: "streams close s --reason x", stdout: "is closed until 'forebay streams open s'\n",
			server: asked(t, `POST /api/v1/streams/s/close {"reason":"x"}`, `{"name":"s","until":null}`),
		},
		{
			name: "open", args: "streams open s", stdout: "s is open\n",
			server: asked(t, `POST /api/v1/streams/s/open {}`, `{"name":"s","until":null}`),
		},
		{
			name: "drop", args: "streams drop s --reason x", stdout: "1 message cancelled\n",
			server: asked(t, `POST /api/v1/streams/s/drop {"reason":"x"}`, `{"cancelled":1}`),
		},
		{
			name: "cancel a key", args: "receipts cancel --stream s --key k", stdout: "2 messages cancelled\n",
			server: asked(t, `POST /api/v1/streams/s/cancel {"key":"k"}`, `{"cancelled":2}`),
		},
		{
			name: "find", args: "messages find --stream s --key 1+1", stdout: "i   queued",
			server: asked(t, `GET /api/v1/streams/s/messages?key=1%2B1`, `[{"id":"i","drains":[{"drain":"d","state":"queued","position":4}]}]`),
		},
		{
			name: "find by idempotency key", args: "messages find --stream s --idempotency-key a/b", stdout: "i   delivered",
			server: asked(t, `GET /api/v1/streams/s/messages?idempotency_key=a%2Fb`, `[{"id":"i","drains":[{"drain":"d","state":"delivered"}]}]`),
		},
		{
			name: "replay", args: "dead replay --drain d --died-of permanent --since 2027-11-11T00:00:00Z --id i --id j --dry-run --reason x",
			stdout: "2 dead letters would be replayed\n",
			server: asked(t, `POST /api/v1/dead/replay {"reason":"x","drain":"d","died_of":"permanent","since":"2027-11-11T00:00:00.000Z","ids":["i","j"],"dry_run":true}`,
				`{"drain":"d","matched":2,"dry_run":true}`),
		},
		{
			name: "drop the dead", args: "dead drop --drain d", stdout: "1 dead letter dropped\n",
			server: asked(t, `DELETE /api/v1/dead {"drain":"d"}`, `{"drain":"d","matched":1,"dropped":1}`),
		},
		{
			name: "a page of the dead", args: "dead list --drain d --after 7", stdout: "There are more: --after 9\n",
			server: asked(t, `GET /api/v1/dead?after=7&drain=d&limit=100`, `{"items":[{"id":"i","reason":"permanent","status":422}],"next":"9"}`),
		},
		{
			name: "a dead letter that is no text", args: "dead show i --drain d", stdout: "2 bytes that are no text",
			server: asked(t, `GET /api/v1/dead/i?drain=d`, `{"id":"i","method":"POST","target":"/x","header":[["A","b"]],"body_base64":"//4="}`),
		},
		{
			name: "why", args: "why d", stdout: "*  retry-after   0/s",
			server: asked(t, `GET /api/v1/drains/d/why`, `{"drain":"d","rate":0,"binding":"retry-after","constraints":[{"name":"schedule","rate":5},{"name":"retry-after","rate":0}]}`),
		},
		{
			name: "why, with its oldest message", args: "why d", stdout: "\nThe oldest message is i (queued). What it waits for: schedule.\n",
			server: asked(t, `GET /api/v1/drains/d/why`, `{"drain":"d","rate":0,"binding":"schedule","constraints":[],"head":{"id":"i","state":"queued","waits_for":"schedule"}}`),
		},
		{
			name: "events", args: "events --since 2027-11-11T00:00:00Z", stdout: "reload  policy  anna   INC-1   a → b\n",
			server: asked(t, `GET /api/v1/events?limit=1000&since=2027-11-11T00%3A00%3A00Z`, `{"items":[{"id":1,"kind":"reload","object":"policy","actor":"anna","reason":"INC-1","detail":"a → b"}],"next":"1"}`),
		},
		{
			name: "routes", args: "routes", stdout: "r      buffer  POST     any    /v1/*  s       -     l (shadow)  -      1.0 KiB\n",
			server: asked(t, `GET /api/v1/routes`, `[{"name":"r","mode":"buffer","methods":["POST"],"hosts":[],"path_prefix":"/v1/","stream":"s","limits":["l"],"enforcement":"shadow","max_body_bytes":1024}]`),
		},
		{
			name: "sinks", args: "sinks", stdout: "k     http  paused  unlimited      1          2        8     3        0  http://a\n",
			server: asked(t, `GET /api/v1/sinks`, `[{"name":"k","kind":"http","state":"paused","urls":[{"url":"http://a"}],"budget_rate":"unlimited","burst":1,"in_flight":2,"concurrency_limit":8,"live_requests_total":3}]`),
		},
		{
			name: "paused sinks", args: "sinks", stdout: "\nk is paused (INC-1) until 'forebay sinks resume k'\n",
			server: asked(t, `GET /api/v1/sinks`, `[{"name":"k","kind":"http","state":"paused","urls":[],"budget_rate":1,"paused":{"until":null,"reason":"INC-1"}},{"name":"l","kind":"http","state":"open","urls":[],"budget_rate":1}]`),
		},
		{
			name: "sources", args: "sources", stdout: "SOURCE  KIND   STREAM  STATE     LAG  STORED  REFUSED  PARTITIONS  GROUP  TOPICS\n" +
				"a       kafka  s       stopped  1204       7        2           1  g      t,u\n" +
				"b       kafka  s       paused      0       0        0           0  g      t\n" +
				"a stops at topic t partition 3 offset 9: its value has 5 bytes\n" +
				"a failed: topic u is not there\n" +
				"b waits: buffer-full\n",
			server: asked(t, `GET /api/v1/sources`, `[{"name":"a","kind":"kafka","stream":"s","state":"stopped","lag":1204,"stored_total":7,"refused_total":2,"group":"g","topics":["t","u"],"last_error":"topic u is not there",`+
				`"partitions":[{"topic":"t","partition":3,"next":9,"lag":1204,"stopped":"its value has 5 bytes"}]},`+
				`{"name":"b","kind":"kafka","stream":"s","state":"paused","paused_reason":"buffer-full","group":"g","topics":["t"],"partitions":[]}]`),
		},
		{
			name: "limits", args: "limits", stdout: "LIMIT  RATE  BURST  KEY                      KEYS  MAX KEYS  ALLOWED  DENIED  SHADOW DENIED  EVICTIONS\n" +
				"a       5/s     20  principal,header:X-Shop     3       100        7       2              1          0\n" +
				"b       5/s      5  one for all                 1         1        7       0              0          0\n",
			server: asked(t, `GET /api/v1/limits`, `[{"name":"a","rate":5,"burst":20,"key":["principal","header:X-Shop"],"scope":"local","tracked_keys":3,"max_keys":100,`+
				`"allowed_total":7,"denied_total":2,"shadow_denied_total":1,"evictions_total":0},`+
				`{"name":"b","rate":5,"burst":5,"key":[],"scope":"local","tracked_keys":1,"max_keys":1,"allowed_total":7,"denied_total":0,"shadow_denied_total":0,"evictions_total":0}]`),
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			srv := httptest.NewServer(tt.server)
			defer srv.Close()
			var stdout, stderr bytes.Buffer
			code := run(t.Context(), append(strings.Fields(tt.args), "--admin-url", srv.URL), nil, &stdout, &stderr)
			gotErr := strings.ReplaceAll(stderr.String(), srv.URL, "URL")
			if code != tt.code || !strings.Contains(stdout.String(), tt.stdout) || gotErr != tt.stderr {
				t.Errorf("forebay %s = %d\nstdout %q\nstderr %q\nwant %d, %q in stdout, stderr %q",
					tt.args, code, &stdout, gotErr, tt.code, tt.stdout, tt.stderr)
			}
		})
	}
}

func TestClientSendsToken(t *testing.T) {
	var got string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.Header.Get("Authorization")
		_, _ = w.Write([]byte("[]"))
	}))
	defer srv.Close()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("FOREBAY_ADMIN_URL", srv.URL)
	if code := run(t.Context(), []string{"streams", "--token-file", file}, nil, &bytes.Buffer{}, &bytes.Buffer{}); code != exitDone {
		t.Errorf("exit %d, want 0", code)
	}
	if got != "Bearer s3cret" {
		t.Errorf("Authorization = %q, want %q", got, "Bearer s3cret")
	}
}

func TestShort(t *testing.T) {
	tests := map[time.Duration]string{
		-time.Second: "0s", 59900 * time.Millisecond: "59s", 61 * time.Second: "1m01s",
		3*time.Hour + 5*time.Minute: "3h05m", 49 * time.Hour: "2d01h",
	}
	for in, want := range tests {
		if got := short(in); got != want {
			t.Errorf("short(%v) = %q, want %q", in, got, want)
		}
	}
}

func TestLogger(t *testing.T) {
	var out bytes.Buffer
	log := newLogger(&out, config.Log{Level: "warn", Format: "json"})
	log.Info("not this")
	log.Warn("this", "took", 1500*time.Millisecond)
	if got := out.String(); !strings.Contains(got, `"msg":"this","took_seconds":1.5}`) || strings.Contains(got, "not this") {
		t.Errorf("log = %s", got)
	}
}
