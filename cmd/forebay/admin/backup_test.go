package admin

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestBackup streams one for longer than the listener gives a request, and cuts the
// connection where it fails half-way.
func TestBackup(t *testing.T) {
	const limit = 50 * time.Millisecond
	closed := make(chan bool, 1)
	var fails error
	b := backend()
	b.Backup = func(_ context.Context, a Act) (Backup, error) {
		if a.Reason == "again" {
			return Backup{}, ErrBusy
		}
		return Backup{Bytes: 10, Close: func() { closed <- true }, Write: func(ctx context.Context, w io.Writer) error {
			if _, err := io.WriteString(w, "hello"); err != nil {
				return err
			}
			if err := http.NewResponseController(w.(patient).w.(http.ResponseWriter)).Flush(); err != nil {
				return err
			}
			select {
			case <-time.After(4 * limit): // past the deadlines of the listener
			case <-ctx.Done():
				return ctx.Err()
			}
			if fails != nil {
				return fails
			}
			_, err := io.WriteString(w, "world")
			return err
		}}, nil
	}
	srv := httptest.NewUnstartedServer(Handler(b, []Token{{"anna", "s3cret"}}, quiet()))
	srv.Config.ReadTimeout, srv.Config.WriteTimeout = limit, limit
	srv.Start()
	defer srv.Close()
	ask := func(token, body string) (int, string, error) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL+"/api/v1/backup", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := srv.Client().Do(req)
		if err != nil {
			return 0, "", err
		}
		defer resp.Body.Close()
		got, err := io.ReadAll(resp.Body)
		return resp.StatusCode, string(got), err
	}
	if status, _, err := ask("", ""); status != http.StatusUnauthorized {
		t.Errorf("without a token: %d, %v", status, err)
	}
	if status, got, err := ask("s3cret", `{"reason":"again"}`); status != http.StatusConflict || !strings.Contains(got, "problem:busy") {
		t.Errorf("a second one: %d %s, %v", status, got, err)
	}
	if status, got, err := ask("s3cret", ""); status != http.StatusOK || got != "helloworld" || err != nil {
		t.Errorf("backup = %d %q, %v", status, got, err)
	}
	<-closed
	fails = errors.New("input/output error")
	if status, got, err := ask("s3cret", ""); err == nil || got != "hello" {
		t.Errorf("backup that fails = %d %q, %v, want an error", status, got, err)
	}
	<-closed
}
