package admin

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"strings"
	"time"
)

// ReceiptsPrefix is where receipts are, followed by an id.
const ReceiptsPrefix = "/api/v1/receipts/"

// Backend is what the API shows and does. The functions are called
// concurrently; those that need a recovered buffer return [ErrNotReady] before.
type Backend struct {
	Ready    func() error // nil once the process can serve
	Metrics  http.Handler
	Streams  func() ([]Stream, error)
	Drains   func() ([]Drain, error)
	Why      func(drain, message string) (Why, error) // message: a receipt's id, or empty
	Audit    func(context.Context) (Audit, error)
	Receipts func() (http.Handler, error) // serves below ReceiptsPrefix
	Messages func(context.Context, MessagesQuery) (any, error)
	Events   func(after int64, from time.Time, limit int) ([]Event, error)
	Dead     func(Selection, DeadPage) (Page[Dead], error)
	DeadShow func(id, drain string) (DeadMessage, error)
	Reload   func(context.Context) (hash string, err error)
	Backup   func(context.Context, Act) (Backup, error)
	Policy   func() (Policy, error)
	Routes   func() ([]Route, error)
	Sinks    func() ([]Sink, error)
	Limits   func() ([]Limit, error)
	Sources  func() ([]Source, error)
	Windows  func(WindowsQuery) (any, error)
	// Acts are what operators do, by method and path below /api/v1. {name} in a
	// path is the object's. They return what the endpoint answers.
	Acts map[string]func(context.Context, Act) (any, error)
}

// Handler serves the whole admin listener. With tokens every request but
// probes needs one; without any Host has to be a loopback name or address, so
// the listener has to be on loopback.
func Handler(b Backend, tokens []Token, log *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { plain(w, http.StatusOK, "ok\n") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := b.Ready(); err != nil {
			plain(w, http.StatusServiceUnavailable, err.Error()+"\n")
			return
		}
		plain(w, http.StatusOK, "ok\n")
	})
	mux.Handle("GET /metrics", b.Metrics)
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	api(mux, b, log)

	// Cross-origin protection stands before the token: a browser that holds one
	// must not be led into a write either.
	cross := http.NewCrossOriginProtection()
	cross.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		writeProblem(w, http.StatusForbidden, problem{
			Type: urn("forbidden"), Title: "Cross-origin request", Instance: r.URL.Path,
			Detail: "Pages of other origins may not change anything here.",
		})
	}))
	return headers(cross.Handler(guard{next: problems(mux), tokens: tokens}))
}

func api(mux *http.ServeMux, b Backend, log *slog.Logger) {
	get := func(path string, answer func(*http.Request) (any, error)) {
		mux.Handle("GET /api/v1"+path, jsonHandler(log, answer))
	}
	get("/streams", func(*http.Request) (any, error) { return list(b.Streams()) })
	get("/drains", func(*http.Request) (any, error) { return list(b.Drains()) })
	get("/drains/{name}", func(r *http.Request) (any, error) {
		drains, err := b.Drains()
		if err != nil {
			return nil, err
		}
		for _, d := range drains {
			if d.Name == r.PathValue("name") {
				return d, nil
			}
		}
		return nil, fmt.Errorf("drain %s: %w", r.PathValue("name"), ErrNotFound)
	})
	get("/audit", func(r *http.Request) (any, error) { return b.Audit(r.Context()) })
	get("/policy", func(*http.Request) (any, error) { return b.Policy() })
	get("/routes", func(*http.Request) (any, error) { return list(b.Routes()) })
	get("/sinks", func(*http.Request) (any, error) { return list(b.Sinks()) })
	get("/limits", func(*http.Request) (any, error) { return list(b.Limits()) })
	get("/sources", func(*http.Request) (any, error) { return list(b.Sources()) })
	queries(get, b)
	for path, do := range b.Acts {
		method, path, _ := strings.Cut(path, " ")
		mux.Handle(method+" /api/v1"+path, act(log, do))
	}
	for _, method := range []string{"GET", "DELETE"} {
		mux.HandleFunc(method+" "+ReceiptsPrefix+"{id}", func(w http.ResponseWriter, r *http.Request) {
			h, err := b.Receipts()
			if err != nil {
				writeError(w, r, log, err)
				return
			}
			h.ServeHTTP(w, r)
		})
	}
	mux.Handle("POST /api/v1/backup", backup(log, b.Backup))
	mux.Handle("POST /api/v1/reload", jsonHandler(log, func(r *http.Request) (any, error) {
		hash, err := b.Reload(r.Context())
		return map[string]string{"hash": hash}, err
	}))
}

// list makes a list of none an empty array, never null.
func list[T any](items []T, err error) (any, error) {
	if items == nil {
		items = []T{}
	}
	return items, err
}

func jsonHandler(log *slog.Logger, answer func(*http.Request) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v, err := answer(r)
		if err != nil {
			writeError(w, r, log, err)
			return
		}
		var body bytes.Buffer
		if err := json.NewEncoder(&body).Encode(v); err != nil {
			writeError(w, r, log, fmt.Errorf("encode answer: %w", err))
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(body.Bytes()) // a caller that has gone hears nothing
	})
}

func plain(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text) // a caller that has gone hears nothing
}

// headers gives every answer a request id and what browsers need to be told.
func headers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Request-Id", rand.Text())
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
		next.ServeHTTP(w, r)
	})
}

// problems answers what the mux does not know with a problem rather than with text.
func problems(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h, pattern := mux.Handler(r)
		if pattern != "" {
			mux.ServeHTTP(w, r)
			return
		}
		asked := &verdict{header: http.Header{}}
		h.ServeHTTP(asked, r)
		if allow := asked.header.Get("Allow"); asked.status == http.StatusMethodNotAllowed {
			w.Header().Set("Allow", allow)
			writeProblem(w, asked.status, problem{
				Type: urn("method-not-allowed"), Title: "Method not allowed", Instance: r.URL.Path,
				Detail: "Allowed here: " + allow + ".",
			})
			return
		}
		writeProblem(w, http.StatusNotFound, problem{
			Type: urn("not-found"), Title: "Not found", Instance: r.URL.Path, Detail: "The admin API has nothing here.",
		})
	})
}

// verdict records what the mux would have answered.
type verdict struct {
	header http.Header
	status int
}

func (v *verdict) Header() http.Header         { return v.header }
func (v *verdict) WriteHeader(status int)      { v.status = status }
func (v *verdict) Write(p []byte) (int, error) { return len(p), nil }

// NewServer returns a server with every time-out set. Its write time-out leaves
// room for a 60 s profile.
func NewServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      2 * time.Minute,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}
