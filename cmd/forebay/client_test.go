package main

import (
	"bytes"
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
			stderr: "error: the server answered 302 Found\n",
		},
		{
			name: "not ready", args: "healthcheck", code: exitFailed, server: answer(503, "text/plain", "stopping\n"),
			stderr: "error: not ready: stopping\n",
		},
		{name: "ready", args: "healthcheck", server: answer(200, "text/plain", "ok\n"), stdout: "ready\n"},
		{
			name: "streams", args: "streams", stdout: "STREAM  STATE  MESSAGES     SIZE  CAPACITY  OLDEST  ACCEPTED\norders  open          3  1.5 KiB  the disk       -         9\n",
			server: answer(200, "application/json", `[{"name":"orders","state":"open","messages":3,"bytes":1536,"accepted_total":9}]`),
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
