package policies

import (
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// maxURL bounds a sink's URL, in bytes.
const maxURL = 2048

// parseURL reads where a sink is, or says what is wrong. It does not repeat a
// password in its message.
func parseURL(s string) (u *url.URL, message, hint string) {
	const example = "write http or https, a host and perhaps a port and a path: https://orders.internal:8443"
	u, err := url.Parse(s)
	switch {
	case err != nil || len(s) > maxURL:
		return nil, "a url cannot be read", example
	case u.User != nil:
		return nil, "a url holds a user or password", "remove it: a policy file holds no secrets, only references to them"
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Sprintf("url %s is neither http nor https", quote(s)), example
	case u.Opaque != "" || !isHost(u.Hostname()) || !isPort(u):
		return nil, fmt.Sprintf("url %s has no valid host and port", quote(s)), example
	case strings.Contains(s, "#"):
		return nil, fmt.Sprintf("url %s has a fragment", quote(s)), "remove # and what follows: it is never sent"
	case strings.Contains(s, "?"):
		return nil, "a url has a query", "remove ? and what follows: a message keeps the query it came with"
	}
	u.Host = strings.ToLower(u.Host)
	return u, "", ""
}

func isPort(u *url.URL) bool {
	if u.Port() == "" {
		return !strings.HasSuffix(u.Host, ":")
	}
	n, err := strconv.Atoi(u.Port())
	return err == nil && n >= 1 && n <= 65535
}

// isHost accepts addresses and host names as DNS has them, underscores included.
func isHost(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		if strings.ContainsFunc(label, func(r rune) bool { return !isHostRune(r) }) {
			return false
		}
	}
	return true
}

func isHostRune(r rune) bool {
	return r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
}
