package webhdfs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"forebay/policies"
)

const (
	prefix = "/webhdfs/v1"
	// maxAnswer bounds what is read of an answer; maxListing of a folder's.
	maxAnswer  = 64 << 10
	maxListing = 64 << 20
)

// client speaks to the NameNodes, one after the other until one answers for the others
// too, and to the DataNodes that they name. It is safe for concurrent use.
type client struct {
	policy policies.WebHDFSSink
	http   http.Client
	active atomic.Int32 // which NameNode answered last
}

func newClient(p policies.WebHDFSSink, transport http.RoundTripper) *client {
	return &client{policy: p, http: http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// op is one operation of a NameNode.
type op struct {
	method, name, path string
	more               url.Values
	body               []byte // for a DataNode; nil: there is none
	most               int64  // bytes of the answer that are read; 0: maxAnswer
	before             func() error
}

// do carries out an operation and returns what was answered. It is bounded by the sink's
// time-out. An error is a [*failure], or what before returned.
func (c *client) do(ctx context.Context, o op) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, c.policy.HTTP.Timeout)
	defer cancel()
	var last error
	for range c.policy.HTTP.URLs {
		at := c.active.Load()
		answer, err := c.ask(ctx, c.policy.HTTP.URLs[at], o)
		if err == nil || !elsewhere(err) {
			return answer, err
		}
		last = err
		c.active.CompareAndSwap(at, (at+1)%int32(len(c.policy.HTTP.URLs)))
		if ctx.Err() != nil { // one that hangs is not asked first the next time
			break
		}
	}
	return nil, last
}

// ask carries it out through one NameNode.
func (c *client) ask(ctx context.Context, node *url.URL, o op) ([]byte, error) {
	query := url.Values{"op": {o.name}}
	if c.policy.User != "" {
		query.Set("user.name", c.policy.User)
	}
	maps.Copy(query, o.more)
	if o.body != nil {
		query.Set("noredirect", "true")
	}
	to := *node
	to.Path, to.RawQuery = strings.TrimSuffix(node.Path, "/")+prefix+o.path, query.Encode()
	answer, err := c.call(ctx, o.method, &to, nil, max(o.most, maxAnswer))
	if err != nil || o.body == nil {
		return answer, err
	}
	data, err := c.dataNode(answer)
	if err != nil {
		return nil, err
	}
	if o.before != nil {
		if err := o.before(); err != nil {
			return nil, err
		}
	}
	answer, err = c.call(ctx, o.method, data, o.body, maxAnswer)
	if f, ok := errors.AsType[*failure](err); ok {
		f.data, f.written = true, !f.unsent
	}
	return answer, err
}

// dataNode is where a NameNode sends a body, if that is a host that may have it: a
// NameNode that was taken over does not decide where messages go.
func (c *client) dataNode(answer []byte) (*url.URL, error) {
	var said struct{ Location string }
	if err := json.Unmarshal(answer, &said); err != nil || said.Location == "" {
		return nil, &failure{name: "malformed answer", detail: "the NameNode does not say where the data goes"}
	}
	to, err := url.Parse(said.Location)
	if err != nil || to.Scheme != "http" && to.Scheme != "https" || to.Host == "" || to.User != nil {
		return nil, &failure{name: "malformed answer", detail: "the NameNode names no http or https url for the data"}
	}
	if c.policy.HTTP.URLs[0].Scheme == "https" && to.Scheme != "https" {
		return nil, &failure{name: "refused host", detail: "the NameNode sends data to " + to.Host + " in clear text"}
	}
	if !c.policy.MayWriteTo(to.Hostname()) {
		return nil, &failure{name: "refused host", detail: "the NameNode sends data to " + to.Hostname() + ", which data_hosts does not list"}
	}
	return to, nil
}

func (c *client) call(ctx context.Context, method string, to *url.URL, body []byte, most int64) ([]byte, error) {
	var data io.Reader
	if body != nil {
		data = bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, to.String(), data)
	if err != nil {
		return nil, &failure{name: "unusable request", detail: to.Host}
	}
	req.Header.Set("User-Agent", "forebay")
	if body != nil {
		req.Header.Set("Content-Type", "application/octet-stream")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, unanswered(err, to.Host)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, most+1))
	switch {
	case err != nil:
		return nil, unanswered(err, to.Host)
	case int64(len(answer)) > most:
		return nil, &failure{name: "malformed answer", detail: fmt.Sprintf("%s answers with over %d bytes", to.Host, most)}
	case resp.StatusCode/100 != 2:
		return nil, refusal(resp.StatusCode, answer, to.Host)
	}
	return answer, nil
}

// create makes a file with what it begins with.
func (c *client) create(ctx context.Context, path string, data []byte, before func() error) error {
	_, err := c.do(ctx, op{method: http.MethodPut, name: "CREATE", path: path, body: data, before: before, more: url.Values{"overwrite": {"false"}}})
	return err
}

// append adds to a file.
func (c *client) append(ctx context.Context, path string, data []byte, before func() error) error {
	_, err := c.do(ctx, op{method: http.MethodPost, name: "APPEND", path: path, body: data, before: before})
	return err
}

// rename gives a file its name; false: it is not there, or the name is taken.
func (c *client) rename(ctx context.Context, from, to string) (bool, error) {
	return c.truth(ctx, op{method: http.MethodPut, name: "RENAME", path: from, more: url.Values{"destination": {to}}})
}

// remove deletes a file; false: it was not there.
func (c *client) remove(ctx context.Context, path string) (bool, error) {
	return c.truth(ctx, op{method: http.MethodDelete, name: "DELETE", path: path})
}

func (c *client) truth(ctx context.Context, o op) (bool, error) {
	answer, err := c.do(ctx, o)
	if err != nil {
		return false, err
	}
	var said struct{ Boolean *bool }
	if json.Unmarshal(answer, &said) != nil || said.Boolean == nil {
		return false, &failure{name: "malformed answer", detail: o.name + " is answered with neither true nor false"}
	}
	return *said.Boolean, nil
}

// exists reports whether there is such a file.
func (c *client) exists(ctx context.Context, path string) (bool, error) {
	_, err := c.do(ctx, op{method: http.MethodGet, name: "GETFILESTATUS", path: path})
	if isName(err, "FileNotFoundException") {
		return false, nil
	}
	return err == nil, err
}

// list returns the names in a folder; none where it is not there.
func (c *client) list(ctx context.Context, folder string) ([]string, error) {
	answer, err := c.do(ctx, op{method: http.MethodGet, name: "LISTSTATUS", path: folder, most: maxListing})
	if isName(err, "FileNotFoundException") {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var said struct {
		FileStatuses struct {
			FileStatus []struct{ PathSuffix, Type string }
		}
	}
	if err := json.Unmarshal(answer, &said); err != nil {
		return nil, &failure{name: "malformed answer", detail: "LISTSTATUS of " + folder}
	}
	var names []string
	for _, s := range said.FileStatuses.FileStatus {
		if s.Type == "FILE" {
			names = append(names, s.PathSuffix)
		}
	}
	return names, nil
}

// retryUntil calls what, with growing waits, until it succeeds or ctx is done.
func retryUntil(ctx context.Context, what func() error) error {
	for wait := firstWait; ; wait = min(2*wait, lastWait) {
		err := what()
		if err == nil || ctx.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait):
		}
	}
}
