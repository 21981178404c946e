package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/textproto"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
)

// What commands take that send requests to any address.

var (
	httpToken   = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")
	httpControl = regexp.MustCompile(`[\x00-\x08\x0a-\x1f\x7f]`)
)

// httpTarget reads the URL of a flag.
func httpTarget(flag, text string) (*url.URL, error) {
	if text == "" {
		return nil, errors.New(flag + " is missing")
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w", flag, err)
	case u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return nil, fmt.Errorf("%s %q is no URL as http://127.0.0.1:8080/v1/orders", flag, text)
	case u.User != nil:
		return nil, fmt.Errorf("%s holds a password; send --header 'Authorization: …' instead", flag)
	}
	return u, nil
}

// requestHeader reads fields. Those that say where a body ends are the command's own,
// and so are some others.
func requestHeader(fields []string, command string, own ...string) (http.Header, error) {
	h := make(http.Header)
	own = append(own, "Content-Length", "Transfer-Encoding", "Connection", "Expect")
	for _, f := range fields {
		name, value, ok := strings.Cut(f, ":")
		value = strings.TrimSpace(value)
		name = textproto.CanonicalMIMEHeaderKey(name)
		switch {
		case !ok || !httpToken.MatchString(name) || httpControl.MatchString(value):
			return nil, fmt.Errorf("--header %q is no field as 'Content-Type: application/json'", f)
		case slices.Contains(own, name):
			return nil, fmt.Errorf("--header %s: %s sets it itself, or goes without", name, command)
		}
		h.Add(name, value)
	}
	return h, nil
}

// trustedRoots reads who may sign a server's certificate; without a file, nil.
func trustedRoots(path string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("--ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("--ca: %s holds no certificate in PEM", path)
	}
	return pool, nil
}
