package ingress

import (
	"bytes"
	"errors"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// Failures are logged, also after the clock was set back.
func TestFailureLogWhoseClockIsSetBack(t *testing.T) {
	var out bytes.Buffer
	l := &failureLog{log: slog.New(slog.NewTextHandler(&out, nil))}
	x := begin(httptest.NewRecorder(), httptest.NewRequest("POST", "/", nil), false)
	l.next.Store(time.Now().Add(time.Hour).UnixNano())
	l.report(x, errors.New("first"))
	if text := out.String(); !strings.Contains(text, "first") {
		t.Errorf("log:\n%s\nwant the failure", text)
	}
}
