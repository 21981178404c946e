package admin

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strings"
)

// problem is an RFC 9457 body.
type problem struct {
	Type              string    `json:"type"`
	Title             string    `json:"title"`
	Status            int       `json:"status"`
	Detail            string    `json:"detail"`
	Instance          string    `json:"instance"`
	RequestID         string    `json:"request_id"`
	RetryAfterSeconds *int      `json:"retry_after_seconds,omitempty"`
	Errors            []Mistake `json:"errors,omitempty"`
}

func urn(name string) string { return "urn:forebay:problem:" + name }

// ErrNotFound means a name or an id that the API does not know.
var ErrNotFound = errors.New("not found")

// ErrNotReady means that the process is still recovering, or stopping.
var ErrNotReady = errors.New("not ready")

// ErrBusy means that what is asked for is under way already.
var ErrBusy = errors.New("under way already")

func writeProblem(w http.ResponseWriter, status int, p problem) {
	p.Status = status
	p.RequestID = w.Header().Get("X-Request-Id")
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(p) // a caller that has gone hears nothing
}

// writeError is the one place that turns errors into statuses. What it does
// not know is logged and answered without its text.
func writeError(w http.ResponseWriter, r *http.Request, log *slog.Logger, err error) {
	p := problem{Instance: r.URL.Path, Detail: sentence(err.Error())}
	var (
		refused Refused
		invalid Invalid
	)
	switch {
	case errors.As(err, &invalid):
		p.Type, p.Title = urn("bad-request"), "Bad request"
		p.Detail = err.Error() + "." // as it is: it may begin with the name of a field
		writeProblem(w, http.StatusBadRequest, p)
	case errors.As(err, &refused):
		p.Type, p.Title, p.Errors = urn("policy-refused"), "Policy refused", refused
		p.Detail = "The running policy stays: " + err.Error() + "." // as it is: it may begin with the name of a file
		writeProblem(w, http.StatusUnprocessableEntity, p)
	case errors.Is(err, ErrNotReady):
		one := 1
		p.Type, p.Title, p.RetryAfterSeconds = urn("not-ready"), "Not ready", &one
		w.Header().Set("Retry-After", "1")
		writeProblem(w, http.StatusServiceUnavailable, p)
	case errors.Is(err, ErrBusy):
		p.Type, p.Title = urn("busy"), "Under way already"
		writeProblem(w, http.StatusConflict, p)
	case errors.Is(err, ErrNotFound):
		p.Type, p.Title = urn("not-found"), "Not found"
		writeProblem(w, http.StatusNotFound, p)
	default:
		log.Error("admin request failed", "method", r.Method, "path", r.URL.Path, "err", err)
		p.Type, p.Title, p.Detail = urn("internal"), "Internal error", "The log has the reason."
		writeProblem(w, http.StatusInternalServerError, p)
	}
}

func sentence(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:] + "."
}
