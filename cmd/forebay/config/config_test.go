package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"forebay/buffer/segment"
)

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "forebay.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func needed() []Flag {
	return []Flag{{"--data", "buffer.dir", "data"}, {"--policies", "policies.paths", []string{"p.yaml"}}}
}

func TestLoadDefaults(t *testing.T) {
	got, err := Load(Sources{Flags: needed()})
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		Version: 1,
		Listen:  Listen{Public: []Listener{{Address: ":8080"}}, Admin: Admin{Address: "127.0.0.1:9080"}},
		HTTP: HTTP{
			ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute,
			MaxHeaderBytes: 32 << 10, MaxConnections: 20_000,
		},
		Buffer:    Buffer{Engine: "badger", Dir: "data", SegmentBytes: 512 << 20},
		Policies:  Policies{Paths: []string{"p.yaml"}},
		Shutdown:  Shutdown{Delay: 5 * time.Second, Timeout: 25 * time.Second},
		Telemetry: Telemetry{Log: Log{Level: "info", Format: "text"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Load with flags alone (-want +got):\n%s", diff)
	}
}

func TestLoadLayers(t *testing.T) {
	file := write(t, `
version: 1
listen:
  public:
    - { address: "127.0.0.1:8081" }
    - address: "127.0.0.1:8082"
http: { idle_timeout: 1d, max_header_bytes: 64KiB, trusted_proxies: [10.0.0.0/8, "2001:db8::1"] }
buffer: { dir: from-file, segment_bytes: 1MiB, encryption_key_file: key }
policies: { paths: [a.yaml, "b/*.yaml"] }
shutdown: { delay: 1s, timeout: 2s }
`)
	got, err := Load(Sources{
		File: file,
		Environ: []string{
			"FOREBAY_BUFFER__DIR=from-env", "FOREBAY_SHUTDOWN__DELAY=3s", "FOREBAY_BUFFER__ENCRYPTION_KEY_FILE=k", "FOREBAY_HTTP__MAX_CONNECTIONS=7",
			"FOREBAY_POLICIES__PATHS=c.yaml, d.yaml",
			// Neither of these is a setting.
			"FOREBAY_ADMIN_URL=http://x", "FOREBAY_PORT=tcp://10.0.0.1:80", "FOREBAY_SERVICE_HOST=10.0.0.1", "PATH=/bin",
		},
		Flags: []Flag{{"--data", "buffer.dir", "from-flag"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	type layers struct {
		Dir                string
		Segment            int64
		Delay, Timeout     time.Duration
		Idle               time.Duration
		Header             int64
		Connections        int
		Paths              []string
		Public             []Listener
		Proxies            string
		Admin, LogLevelStr string
		Key                string
	}
	want := layers{
		"from-flag", 1 << 20, 3 * time.Second, 2 * time.Second, 24 * time.Hour, 64 << 10, 7,
		[]string{"c.yaml", "d.yaml"},
		[]Listener{{"127.0.0.1:8081"}, {"127.0.0.1:8082"}},
		"[10.0.0.0/8 2001:db8::1/128]",
		"127.0.0.1:9080", "info", "k",
	}
	have := layers{
		got.Buffer.Dir, got.Buffer.SegmentBytes, got.Shutdown.Delay, got.Shutdown.Timeout, got.HTTP.IdleTimeout,
		got.HTTP.MaxHeaderBytes, got.HTTP.MaxConnections, got.Policies.Paths, got.Listen.Public, fmt.Sprint(got.HTTP.Proxies()),
		got.Listen.Admin.Address, got.Telemetry.Log.Level, got.Buffer.EncryptionKeyFile,
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("layers (-want +got):\n%s", diff)
	}
}

func TestLoadMistakes(t *testing.T) {
	tests := []struct {
		name    string
		file    string
		environ []string
		flags   []Flag
		want    []Problem
	}{
		{
			name: "unknown settings get the nearest name, all at once",
			file: "buffer:\n  dirr: x\nshutdwn:\n  delay: 1s\n",
			want: []Problem{
				{Line: 2, Column: 3, Message: `unknown setting "buffer.dirr"`, Hint: `did you mean "buffer.dir"?`},
				{Line: 3, Column: 1, Message: `unknown setting "shutdwn"`},
			},
		},
		{
			name: "what is not built is refused",
			file: "listen:\n  public:\n    - { address: \":1\", tls: { cert_file: x } }\nlimits: { store: {} }\n" +
				"telemetry: { otlp: { endpoint: x } }\n",
			want: []Problem{
				{Line: 3, Column: 24, Message: "listen.public[].tls is not supported yet", Hint: "end TLS in front of Forebay, or remove it"},
				{Line: 4, Column: 1, Message: "limits is not supported yet", Hint: "remove it"},
				{Line: 5, Column: 14, Message: "telemetry.otlp is not supported yet", Hint: "remove it"},
			},
		},
		{
			name: "proxies that are no addresses",
			file: "http:\n  trusted_proxies: [10.0.0.1, 2001:db8::/32, 10.0.0.1/8, proxy.internal, \"::ffff:10.0.0.1\"]\n",
			want: []Problem{
				{Line: 2, Column: 20, Message: "http.trusted_proxies: 10.0.0.1/8 is no range: it begins at 10.0.0.0/8", Hint: `write ["10.0.0.0/8", "2001:db8::1"]`},
				{Line: 2, Column: 20, Message: `http.trusted_proxies: "proxy.internal" is neither an IP address nor a range such as 10.0.0.0/8`, Hint: `write ["10.0.0.0/8", "2001:db8::1"]`},
				{Line: 2, Column: 20, Message: `http.trusted_proxies: "::ffff:10.0.0.1" is neither an IP address nor a range such as 10.0.0.0/8`, Hint: `write ["10.0.0.0/8", "2001:db8::1"]`},
			},
		},
		{
			name: "the shared engine is refused",
			file: "buffer: { engine: kafka }\n",
			want: []Problem{{Line: 1, Column: 19, Message: "buffer.engine: kafka is not supported yet", Hint: "use badger"}},
		},
		{
			name: "values without units",
			file: "shutdown: { delay: 5 }\nbuffer: { segment_bytes: many }\n",
			want: []Problem{
				{Line: 1, Column: 20, Message: `shutdown.delay: "5" is not a duration such as 250ms, 30s, 1h30m or 14d`},
				{Line: 2, Column: 26, Message: `buffer.segment_bytes: "many" is not a size such as 256KiB, 20GiB, 10MB or 4096`},
			},
		},
		{
			name: "what cannot be read and what cannot be honoured, in one round",
			file: "buffer: { dirr: data, segment_bytes: 1KiB }\nhttp: { trusted_proxies: [], max_connections: 0, idle_timeout: soon }\n" +
				"listen: { public: [{ addr: \":1\" }], admin: { address: \":1\" } }\nshutdown: { timeout: 0s }\n",
			environ: []string{"FOREBAY_TELEMETRY__LOG__LEVEL=loud"},
			flags:   []Flag{{"--policies", "policies.paths", []string{}}},
			want: []Problem{
				{Line: 1, Column: 11, Message: `unknown setting "buffer.dirr"`, Hint: `did you mean "buffer.dir"?`},
				{Line: 2, Column: 64, Message: `http.idle_timeout: "soon" is not a duration such as 250ms, 30s, 1h30m or 14d`},
				{Line: 3, Column: 22, Message: `unknown setting "listen.public[].addr"`, Hint: "an item has an address"},
				{
					Line: 3, Column: 55, Message: "listen.admin.address: :1 is reachable from other machines and no token is set",
					Hint: "set listen.admin.token_file, or listen on 127.0.0.1",
				},
				{Line: 2, Column: 47, Message: "http.max_connections: must be at least 1"},
				{Line: 1, Column: 38, Message: "buffer.segment_bytes: must be at least 1MiB"},
				{File: "--policies", Message: "policies.paths: is not set", Hint: "pass --policies 'policies/*.yaml', or set it in forebay.yaml"},
				{Line: 4, Column: 22, Message: "shutdown.timeout: must be greater than 0"},
				{File: "FOREBAY_TELEMETRY__LOG__LEVEL", Message: `telemetry.log.level: "loud" is not one of debug, info, warn, error`},
			},
		},
		{
			name:  "a later layer mends what an earlier one could not read",
			file:  "buffer: { dir: [x] }\n",
			flags: []Flag{{"--policies", "policies.paths", []string{"p.yaml"}}, {"--data", "buffer.dir", ""}},
			want: []Problem{
				{Line: 1, Column: 16, Message: "buffer.dir needs a single value"},
				{File: "--data", Message: "buffer.dir: is not set", Hint: "pass --data DIR, or set it in forebay.yaml"},
			},
		},
		{
			name: "set twice",
			file: "buffer: { dir: a, dir: b }\n",
			want: []Problem{{Line: 1, Column: 19, Message: "buffer.dir is set twice, first on line 1", Hint: "keep one of the two"}},
		},
		{
			name: "small segments",
			file: "buffer: { segment_bytes: 1000KiB }\n",
			want: []Problem{{Line: 1, Column: 26, Message: "buffer.segment_bytes: must be at least 1MiB"}},
		},
		{
			name: "large segments",
			file: "buffer: { segment_bytes: 1908874353, max_bytes: 1MiB }\n",
			want: []Problem{{
				Line: 1, Column: 26, Message: "buffer.segment_bytes: must be at most 1908874352 bytes, a little under 1821MiB",
				Hint: "write 1GiB, or 512MiB as the default is",
			}},
		},
		{
			name: "less than two segments reserve",
			file: "buffer: { segment_bytes: 16MiB, max_bytes: 42MiB }\n",
			want: []Problem{{
				Line: 1, Column: 44, Message: "buffer.max_bytes: must be at least 44MiB, what two segments reserve",
				Hint: "raise it, or lower buffer.segment_bytes",
			}},
		},
		{
			name: "admin beyond loopback without a token",
			file: "listen: { admin: { address: \":9080\" } }\n",
			want: []Problem{{
				Line: 1, Column: 29, Message: "listen.admin.address: :9080 is reachable from other machines and no token is set",
				Hint: "set listen.admin.token_file, or listen on 127.0.0.1",
			}},
		},
		{
			name:    "environment",
			environ: []string{"FOREBAY_BUFFER__DIRS=x", "FOREBAY_SHUTDOWN__TIMEOUT=soon", "FOREBAY_LIMITS__STORE=x"},
			want: []Problem{
				{File: "FOREBAY_BUFFER__DIRS", Message: `unknown setting "buffer.dirs"`, Hint: `did you mean "buffer.dir"?`},
				{File: "FOREBAY_LIMITS__STORE", Message: "limits.store is not supported yet", Hint: "unset it"},
				{File: "FOREBAY_SHUTDOWN__TIMEOUT", Message: `shutdown.timeout: "soon" is not a duration such as 250ms, 30s, 1h30m or 14d`},
			},
		},
		{
			name:  "nowhere to store",
			flags: []Flag{{"--policies", "policies.paths", []string{"p.yaml"}}},
			want: []Problem{{
				File: "configuration", Message: "buffer.dir: is not set", Hint: "pass --data DIR, or set it in forebay.yaml",
			}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			src := Sources{Environ: tt.environ, Flags: tt.flags}
			if tt.flags == nil {
				src.Flags = needed()
			}
			if tt.file != "" {
				src.File = write(t, tt.file)
			}
			_, err := Load(src)
			var got Problems
			if !errors.As(err, &got) {
				t.Fatalf("Load = %v, want Problems; file:\n%s", err, tt.file)
			}
			for i := range tt.want {
				if tt.want[i].File == "" {
					tt.want[i].File = src.File
				}
				if line := tt.want[i].Line; line > 0 {
					tt.want[i].Source = strings.Split(tt.file, "\n")[line-1]
				}
			}
			if diff := cmp.Diff(Problems(tt.want), got); diff != "" {
				t.Errorf("mistakes (-want +got):\n%s\nfile:\n%s", diff, tt.file)
			}
		})
	}
}

// TestSegmentBounds holds what is taken here to what the engine can address: a
// value log below 2 GiB. What a segment reserves beside it is the same for all
// large ones.
func TestSegmentBounds(t *testing.T) {
	beside := segment.Reserved(1<<30) - 9<<30/8
	if got := segment.Reserved(maxSegmentBytes) - beside; got > 2<<30-1 {
		t.Errorf("a segment at the bound has a value log of %d bytes", got)
	}
	if got := segment.Reserved(maxSegmentBytes+2) - beside; got <= 2<<30-1 {
		t.Errorf("a segment over the bound has a value log of %d bytes: the bound is too low", got)
	}
	for _, size := range []string{"1MiB", "512MiB", "1908874352"} {
		if _, err := Load(Sources{Flags: append(needed(), Flag{"--x", "buffer.segment_bytes", size})}); err != nil {
			t.Errorf("segment_bytes %s: %v", size, err)
		}
	}
}

func TestLoopback(t *testing.T) {
	tests := map[string]bool{
		"127.0.0.1:9080": true, "127.8.8.8:1": true, "[::1]:0": true, "localhost:9080": true,
		":9080": false, "0.0.0.0:9080": false, "[::]:9080": false, "10.0.0.1:9080": false, "example.com:1": false, "": false,
	}
	for address, want := range tests {
		if got := Loopback(address); got != want {
			t.Errorf("Loopback(%q) = %v, want %v", address, got, want)
		}
	}
}
