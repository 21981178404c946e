package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"forebay/cmd/forebay/admin"
)

const (
	defaultAdminURL = "http://127.0.0.1:9080"
	// maxAnswerBytes bounds what a client command reads.
	maxAnswerBytes = 64 << 20
)

// client talks to the admin API of a running server.
type client struct {
	adminURL  string
	tokenFile string
	patience  time.Duration // for a whole answer; 0: as long as it takes
}

func clientFlags(cmd *cobra.Command) *client {
	c := &client{adminURL: defaultAdminURL, patience: 5 * time.Minute}
	if fromEnv := os.Getenv("FOREBAY_ADMIN_URL"); fromEnv != "" {
		c.adminURL = fromEnv
	}
	cmd.Flags().StringVar(&c.adminURL, "admin-url", c.adminURL, "admin API of the server (FOREBAY_ADMIN_URL)")
	cmd.Flags().StringVar(&c.tokenFile, "token-file", "", "file that holds the admin token")
	return c
}

// get reads an endpoint into v and returns what it said, word for word.
func (c *client) get(ctx context.Context, path string, v any) ([]byte, error) {
	return c.do(ctx, http.MethodGet, path, nil, v)
}

// do sends a JSON document, or none if ask is nil.
func (c *client) do(ctx context.Context, method, path string, ask, v any) ([]byte, error) {
	resp, err := c.send(ctx, method, path, ask)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes))
	if err != nil {
		return nil, fmt.Errorf("read answer of %s: %w", c.adminURL, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, refusal(resp.StatusCode, raw)
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return nil, hinted{fmt.Errorf("%s does not answer as a Forebay admin API", c.adminURL), "check --admin-url"}
	}
	return raw, nil
}

func (c *client) send(ctx context.Context, method, path string, ask any) (*http.Response, error) {
	base, err := url.Parse(c.adminURL)
	if err != nil || base.Host == "" || (base.Scheme != "http" && base.Scheme != "https") {
		return nil, usageError{fmt.Errorf("%q is not an admin URL", c.adminURL), "write it as " + defaultAdminURL}
	}
	var body []byte
	if ask != nil {
		if body, err = json.Marshal(ask); err != nil {
			return nil, fmt.Errorf("ask %s: %w", c.adminURL, err)
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimRight(c.adminURL, "/")+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", c.adminURL, err)
	}
	if ask != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.tokenFile != "" {
		token, err := admin.ReadToken(c.tokenFile)
		if err != nil {
			return nil, err
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	// Neither a proxy nor a redirect gets to see the token.
	hc := http.Client{
		Timeout:       c.patience,
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := hc.Do(req)
	if err != nil {
		if uerr, ok := errors.AsType[*url.Error](err); ok {
			err = uerr.Err
		}
		return nil, hinted{fmt.Errorf("cannot reach %s: %w", c.adminURL, err), "is 'forebay serve' running there? --admin-url says where to look"}
	}
	return resp, nil
}

// noAdmin is about an answer that no admin API gives.
func noAdmin(status int) error {
	return hinted{fmt.Errorf("the server answered %d %s", status, http.StatusText(status)), "check --admin-url: the admin API would have said why"}
}

// refusal turns a problem document into an error.
func refusal(status int, raw []byte) error {
	var p struct {
		Title, Detail string
		Errors        []admin.Mistake
	}
	if err := json.Unmarshal(raw, &p); err != nil || p.Title == "" {
		return noAdmin(status)
	}
	err := errors.New(said(p.Title, strings.TrimSuffix(p.Detail, ".")))
	switch status {
	case http.StatusUnauthorized:
		return hinted{err, "pass --token-file"}
	case http.StatusBadRequest: // what is asked for cannot be meant
		return usageError{err, "--help says what the command takes"}
	}
	return err
}

// said joins what a problem is and what it was this time, unless that says both.
func said(title, detail string) string {
	title = strings.ToLower(title[:1]) + title[1:]
	if detail == "" {
		return title
	}
	lower := strings.ToLower(detail[:1]) + detail[1:]
	if strings.HasSuffix(lower, ": "+title) || strings.HasPrefix(lower, title+": ") {
		return lower
	}
	return title + ": " + detail
}
