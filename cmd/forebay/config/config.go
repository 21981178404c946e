package config

import (
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"time"

	"github.com/go-viper/mapstructure/v2"
	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/v2"
)

// Config is a complete, valid process configuration.
type Config struct {
	Version   int       `koanf:"version"`
	Listen    Listen    `koanf:"listen"`
	HTTP      HTTP      `koanf:"http"`
	Buffer    Buffer    `koanf:"buffer"`
	Policies  Policies  `koanf:"policies"`
	Shutdown  Shutdown  `koanf:"shutdown"`
	Telemetry Telemetry `koanf:"telemetry"`
}

// Listen says where the process is reached. Port 0 picks a free port.
type Listen struct {
	Public []Listener `koanf:"public"`
	Admin  Admin      `koanf:"admin"`
}

// Listener is one public address, "host:port".
type Listener struct {
	Address string `koanf:"address"`
}

// Admin is the address of the admin API. TokenFile holds the bearer token; it
// is required as soon as the address is not a loopback one.
type Admin struct {
	Address   string `koanf:"address"`
	TokenFile string `koanf:"token_file"`
}

// HTTP bounds every public connection.
type HTTP struct {
	ReadHeaderTimeout time.Duration `koanf:"read_header_timeout"`
	ReadTimeout       time.Duration `koanf:"read_timeout"` // of a whole request, its body included
	IdleTimeout       time.Duration `koanf:"idle_timeout"`
	MaxHeaderBytes    int64         `koanf:"max_header_bytes"`
	MaxConnections    int           `koanf:"max_connections"` // open at a time, on each public address
	TrustedProxies    []string      `koanf:"trusted_proxies"` // addresses and ranges, see Proxies
}

// Proxies are the ranges of TrustedProxies.
func (h HTTP) Proxies() []netip.Prefix {
	var ranges []netip.Prefix
	for _, s := range h.TrustedProxies {
		if p, err := parseRange(s); err == nil { // a loaded Config holds no others
			ranges = append(ranges, p)
		}
	}
	return ranges
}

// Buffer places and bounds the durable log.
type Buffer struct {
	Engine       string `koanf:"engine"`
	Dir          string `koanf:"dir"`
	SegmentBytes int64  `koanf:"segment_bytes"`
	MinFree      int64  `koanf:"min_free"`  // of the volume; 0: 2 × segment_bytes
	MaxBytes     int64  `koanf:"max_bytes"` // on disk; 0: the volume less min_free
	// EncryptionKeyFile has the master keys; empty: what is stored is in the clear.
	EncryptionKeyFile string `koanf:"encryption_key_file"`
}

// Policies names the policy files, as globs.
type Policies struct {
	Paths []string `koanf:"paths"`
}

// Shutdown bounds a graceful stop: accepting goes on for Delay, and what is in
// flight then has Timeout to end.
type Shutdown struct {
	Delay   time.Duration `koanf:"delay"`
	Timeout time.Duration `koanf:"timeout"`
}

// Telemetry is what the process says of itself.
type Telemetry struct {
	Log Log `koanf:"log"`
}

// Log selects the log lines and their form: text or json.
type Log struct {
	Level  string `koanf:"level"`
	Format string `koanf:"format"`
}

// SlogLevel is the level for log/slog.
func (l Log) SlogLevel() slog.Level {
	var level slog.Level
	if err := level.UnmarshalText([]byte(l.Level)); err != nil {
		return slog.LevelInfo // a loaded Config holds one of the four names
	}
	return level
}

// Sources are the layers above the defaults.
type Sources struct {
	File    string   // path of forebay.yaml; empty: none
	Environ []string // "NAME=value", as os.Environ returns them
	Flags   []Flag   // those that were given
}

// Flag is a command-line flag that overrides a setting.
type Flag struct {
	Name    string // as typed, "--data"
	Setting string // "buffer.dir"
	Value   any    // string or []string
}

// Load merges the layers and validates the result. An error is a [Problems]
// when the configuration has mistakes, all of them.
func Load(src Sources) (Config, error) {
	l := newLoader()
	if src.File != "" {
		l.file(src.File)
	}
	l.environment(src.Environ)
	l.flags(src.Flags)
	return l.finish()
}

// finish looks at the values too where something could not be read, so that all
// mistakes come in one round.
func (l *loader) finish() (Config, error) {
	var c Config
	err := l.decode(&c)
	if err == nil {
		l.validate(c)
	}
	if len(l.problems) > 0 {
		l.quote()
		return Config{}, l.problems
	}
	return c, err
}

// CheckFile reports the mistakes of one file by itself and returns the policy
// paths that it names. Settings that may come from another layer are not missed;
// files of secrets may be, where they are not needed yet.
func CheckFile(path string) (policyPaths []string, missing Problems, err error) {
	l, c, err := alone(path)
	if err != nil {
		return nil, nil, err
	}
	l.secretFile("listen.admin.token_file", c.Listen.Admin.TokenFile)
	l.secretFile("buffer.encryption_key_file", c.Buffer.EncryptionKeyFile)
	l.quote()
	missing = l.problems
	if _, named := l.places["policies.paths"]; named {
		policyPaths = c.Policies.Paths
	}
	return policyPaths, missing, nil
}

// secretFile notes a file that is named and cannot be read.
func (l *loader) secretFile(setting, path string) {
	if path == "" {
		return
	}
	f, err := os.Open(path)
	if err != nil {
		l.fault(setting, err.Error(), "it has to be there, and readable, when the server starts")
		return
	}
	_ = f.Close() // nothing was written
}

// KeyFile returns the buffer.encryption_key_file of one file by itself.
func KeyFile(path string) (string, error) {
	_, c, err := alone(path)
	return c.Buffer.EncryptionKeyFile, err
}

// alone reads a file without what may come from other layers.
func alone(path string) (*loader, Config, error) {
	l := newLoader()
	l.add(map[string]any{"buffer.dir": ".", "policies.paths": []string{"."}}, nil)
	l.file(path)
	c, err := l.finish()
	return l, c, err
}

func defaults() map[string]any {
	return map[string]any{
		"version":                  1,
		"listen.public":            []any{map[string]any{"address": ":8080"}},
		"listen.admin.address":     "127.0.0.1:9080",
		"http.read_header_timeout": 5 * time.Second,
		"http.read_timeout":        30 * time.Second,
		"http.idle_timeout":        2 * time.Minute,
		"http.max_header_bytes":    int64(32 << 10),
		"http.max_connections":     20_000,
		"buffer.engine":            "badger",
		"buffer.segment_bytes":     int64(512 << 20),
		"shutdown.delay":           5 * time.Second,
		"shutdown.timeout":         25 * time.Second,
		"telemetry.log.level":      "info",
		"telemetry.log.format":     "text",
	}
}

// loader collects layers and mistakes.
type loader struct {
	k        *koanf.Koanf
	places   map[string]place // where a setting's value comes from
	unread   map[string]bool  // settings whose value in the newest layer that has them cannot be read
	problems Problems
	path     string   // of the file
	lines    []string // its text
}

func newLoader() *loader {
	l := &loader{k: koanf.New("."), places: map[string]place{}, unread: map[string]bool{}}
	l.add(defaults(), nil)
	return l
}

// place is where a value was written.
type place struct {
	source       string
	line, column int
}

// add puts a layer of typed values over those before it.
func (l *loader) add(layer map[string]any, places map[string]place) {
	if err := l.k.Load(confmap.Provider(layer, "."), nil); err != nil {
		l.problems = append(l.problems, Problem{File: "configuration", Message: err.Error()})
		return
	}
	maps.Copy(l.places, places)
	for path := range layer {
		delete(l.unread, path)
	}
}

func (l *loader) decode(c *Config) error {
	err := l.k.UnmarshalWithConf("", c, koanf.UnmarshalConf{DecoderConfig: &mapstructure.DecoderConfig{
		Result: c, TagName: "koanf", ErrorUnused: true,
	}})
	if err != nil {
		return fmt.Errorf("decode configuration: %w", err)
	}
	return nil
}

// fault notes a mistake at the place the setting's value comes from. One that
// could not be read has been told already: what stands in its place is not the
// user's.
func (l *loader) fault(path, message, hint string) {
	if l.unread[path] {
		return
	}
	p, ok := l.places[path]
	if !ok {
		p = place{source: "configuration"}
	}
	l.problems = append(l.problems, Problem{
		File: p.source, Line: p.line, Column: p.column, Message: path + ": " + message, Hint: hint,
	})
}
