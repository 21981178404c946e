package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// guard lets a request through to next if it comes from an operator.
type guard struct {
	next   http.Handler
	tokens []Token // none: none is needed
}

func (g guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/livez" || r.URL.Path == "/readyz" {
		g.next.ServeHTTP(w, r) // probes know neither token nor name, and learn nothing
		return
	}
	if len(g.tokens) > 0 {
		g.authenticate(w, r)
		return
	}
	// Without a token, loopback is the protection, and a page that points its
	// own name at 127.0.0.1 would be on loopback: it still sends that name.
	if !loopbackHost(r.Host) {
		writeProblem(w, http.StatusForbidden, problem{
			Type: urn("forbidden"), Title: "Unknown host", Instance: r.URL.Path,
			Detail: "This API answers to loopback names and addresses only, not to the Host that was sent.",
		})
		return
	}
	g.next.ServeHTTP(w, withActor(r, actorLocal))
}

// authenticate needs no look at Host: who rebinds a name has no token.
func (g guard) authenticate(w http.ResponseWriter, r *http.Request) {
	scheme, sent, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	actor, known := g.holder(strings.TrimSpace(sent))
	if !strings.EqualFold(scheme, "Bearer") || !known {
		w.Header().Set("WWW-Authenticate", `Bearer realm="forebay admin"`)
		writeProblem(w, http.StatusUnauthorized, problem{
			Type: urn("unauthenticated"), Title: "Token needed", Instance: r.URL.Path,
			Detail: "Send the admin token as Authorization: Bearer TOKEN.",
		})
		return
	}
	g.next.ServeHTTP(w, withActor(r, actor))
}

// holder is whose token was sent. It compares with all of them, whichever it is.
func (g guard) holder(sent string) (name string, known bool) {
	for _, t := range g.tokens {
		if equal(sent, t.Secret) {
			name, known = t.Name, true
		}
	}
	return name, known
}

// equal compares in a time that depends on neither value.
func equal(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

func loopbackHost(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = hostport
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}
