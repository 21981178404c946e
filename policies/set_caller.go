package policies

import (
	"net/url"
	"slices"
	"time"

	"forebay/limiter"
)

// Auth is a way for callers to show who they are; one of its fields is set. JWT and
// MTLS are not built yet.
type Auth struct {
	Name   string
	APIKey *APIKey
	JWT    *JWT
	MTLS   *MTLS
}

// APIKey finds callers by a key in a header field.
type APIKey struct {
	Header   string // in canonical form
	KeysFile string // principal:sha256hex a line

	keys apiKeys
	open bool // others than its owner and group may read the file, or others than its owner write it
}

// JWT finds callers by a token that an issuer has signed.
type JWT struct {
	Issuer         *url.URL
	Audience       []string
	Algorithms     []string
	PrincipalClaim string
}

// MTLS finds callers by their certificate.
type MTLS struct {
	CAFile        string
	PrincipalFrom string
}

// Limit is what callers with one key may send, in requests.
type Limit struct {
	Name         string
	Limit        limiter.Limit // burst where the policy has none: max(1, a second of the rate)
	Key          []LimitKey    // empty: one bucket for all
	MaxKeys      int           // 1 without Key
	IPv6Prefix   int           // bits of an IPv6 address that are one caller
	Scope        Scope
	OnStoreError StoreError
}

// The words of a LimitKey. Callers without a principal are told apart by address.
const (
	KeyPrincipal = "principal"
	KeyClientIP  = "client_ip"
)

// LimitKey is a part of what tells callers apart: a header field in canonical
// form, one of the words, or a place in the body.
type LimitKey struct {
	Header string
	Word   string
	Body   Key
}

func (k LimitKey) equal(other LimitKey) bool {
	return k.Header == other.Header && k.Word == other.Word && k.Body.Equal(other.Body)
}

func (k LimitKey) byAddress() bool { return k.Word != "" }

// String is the part as a policy writes it: principal, header:X-Shop, json:/id.
func (k LimitKey) String() string {
	switch {
	case k.Header != "":
		return "header:" + k.Header
	case k.Word != "":
		return k.Word
	}
	return k.Body.String()
}

// OfBody reports whether callers are told apart by what a body says, so that it
// has to be read first.
func (l *Limit) OfBody() bool {
	return slices.ContainsFunc(l.Key, func(k LimitKey) bool { return !k.Body.IsZero() })
}

// SameKeys reports whether two limits tell callers apart in the same way.
func (l *Limit) SameKeys(other *Limit) bool {
	return l.IPv6Prefix == other.IPv6Prefix && slices.EqualFunc(l.Key, other.Key, LimitKey.equal)
}

// Scope says whether each node counts for itself.
type Scope string

// The scopes of limits and budgets. ScopeCluster is not built yet.
const (
	ScopeLocal   Scope = "local"
	ScopeCluster Scope = "cluster"
)

// StoreError is what a node does while it cannot reach the shared store.
type StoreError string

// What can be done without the store: count alone, let all through, or none.
const (
	StoreLocal  StoreError = "local"
	StoreOpen   StoreError = "open"
	StoreClosed StoreError = "closed"
)

// Source is what feeds a stream besides routes.
type Source struct {
	Name   string
	Kafka  *KafkaSource
	Stream string
	Path   string // that an http sink's request is sent to
	// Since is where a new group starts, with FromOldest unset: zero is the latest.
	FromOldest bool
	Since      time.Time
	// RefusedTopic takes what cannot be taken in; empty: the source stops.
	RefusedTopic string
}

// From is where it starts, as a policy writes it.
func (s *Source) From() string {
	switch {
	case s.FromOldest:
		return fromOldest
	case s.Since.IsZero():
		return fromLatest
	default:
		return s.Since.Format(time.RFC3339)
	}
}

// KafkaSource reads topics as a consumer group.
type KafkaSource struct {
	KafkaConnection

	Topics []string
	Group  string
}
