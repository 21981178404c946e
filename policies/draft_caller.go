package policies

import (
	"net/url"
	"regexp"
	"slices"
	"strings"

	"forebay/limiter"
)

const (
	maxAuth       = 100
	maxAudience   = 20
	maxAlgorithms = 10
	maxLimits     = 500
	maxLimitKeys  = 8
	maxKeys       = 10_000_000 // of one limit, in memory
)

type authDraft struct {
	name text
	out  Auth
}

var authSchema = schema[authDraft]{
	what:  "an auth entry",
	oneOf: []string{"api_key", "jwt", "mtls"},
	fields: []field[authDraft]{
		nameField(func(a *authDraft) *text { return &a.name }).says("Unique among auth entries."),
		optional("api_key", &apiKeySchema, func(a *authDraft) **APIKey { return &a.out.APIKey }).
			such("{ header: X-Api-Key, keys_file: /run/secrets/api_keys }").says("A key in a header field."),
		optional("jwt", &jwtSchema, func(a *authDraft) **JWT { return &a.out.JWT }).
			says("A signed token in Authorization.").later(keyAlone),
		optional("mtls", &mtlsSchema, func(a *authDraft) **MTLS { return &a.out.MTLS }).
			says("A client certificate.").later(keyAlone),
	},
}

const keyAlone = "use api_key: this version knows callers by nothing else"

var apiKeySchema = schema[APIKey]{
	what:   "api_key",
	preset: func(k *APIKey) { k.Header = "X-Api-Key" },
	fields: []field[APIKey]{
		{
			name: "header", example: "X-Api-Key", shape: stringShape, about: "The field that holds the key; default X-Api-Key.",
			read: func(v value, k *APIKey) {
				if s, ok := v.str(); ok {
					k.Header, _ = v.keyHeader(s)
				}
			},
		},
		field[APIKey]{
			name: "keys_file", shape: shape{"type": "string", "minLength": 1},
			read: func(v value, k *APIKey) { v.keysFile(k) },
		}.must("/run/secrets/api_keys").says("A file with principal:sha256hex a line."),
	},
}

var (
	claimForm     = regexp.MustCompile(`^[!-~]{1,128}$`)
	algorithmForm = regexp.MustCompile(`^((RS|ES|PS)(256|384|512)|EdDSA)$`)
)

var jwtSchema = schema[JWT]{
	what:   "jwt",
	preset: func(j *JWT) { j.PrincipalClaim = "sub" },
	fields: []field[JWT]{
		urlField("issuer", func(j *JWT) **url.URL { return &j.Issuer }).must(`"https://id.example.com/"`).
			says("Who signs the tokens; its keys are discovered there."),
		wordsField("audience", claimForm, "the audience that tokens for Forebay name", maxAudience, func(j *JWT) *[]string { return &j.Audience }).must("[forebay]").
			says("Audiences, one of which a token has to name."),
		wordsField("algorithms", algorithmForm, "RS256, ES256, PS256 or EdDSA: a shared secret (HS256) or none would let callers sign for others",
			maxAlgorithms, func(j *JWT) *[]string { return &j.Algorithms }).must("[RS256]").
			says("Signature algorithms that are believed."),
		wordField("principal_claim", claimForm, "the name of a claim, such as client_id", func(j *JWT) *string { return &j.PrincipalClaim }).
			says("The claim that names the caller; default sub."),
	},
	check: func(v value, j *JWT, keys keys) {
		if j.Issuer != nil && j.Issuer.Scheme != "https" && isPublic(j.Issuer.Hostname()) {
			keys.at(v, "issuer").fail("use https", "the issuer's keys would be fetched in clear text")
		}
	},
}

var mtlsSchema = schema[MTLS]{
	what:   "mtls",
	preset: func(m *MTLS) { m.PrincipalFrom = "san_uri" },
	fields: []field[MTLS]{
		fileField("ca_file", func(m *MTLS) *string { return &m.CAFile }).must("/etc/forebay/tls/clients-ca.pem").
			says("The certificates that sign those of callers, in PEM."),
		choiceField("principal_from", []string{"san_uri", "san_dns", "san_email", "subject_cn"}, nil, func(m *MTLS) *string { return &m.PrincipalFrom }).
			says("What of a certificate names the caller; default san_uri."),
	},
}

type limitDraft struct {
	name text
	out  Limit
}

var limitSchema = schema[limitDraft]{
	what: "a limit",
	preset: func(l *limitDraft) {
		l.out = Limit{MaxKeys: 100_000, IPv6Prefix: 64, Scope: ScopeLocal, OnStoreError: StoreLocal}
	},
	fields: []field[limitDraft]{
		nameField(func(l *limitDraft) *text { return &l.name }).says("Unique among limits."),
		rateField("rate", func(l *limitDraft) *limiter.Rate { return &l.out.Limit.Rate }).must("50/s").
			says("Requests a second of each key."),
		numberField("burst", 1, maxBurst, func(l *limitDraft) *int { return &l.out.Limit.Burst }).
			says("Requests that may come at once; default a second of the rate, at least 1."),
		{
			name: "key", shape: listShape(patternShape("^(principal$|client_ip$|header:[!-~]+$|json:/)"), 1, maxLimitKeys),
			about: "What has a bucket of its own: principal, client_ip, header:NAME, json:/PLACE or several; default: one bucket for all.",
			read:  func(v value, l *limitDraft) { v.limitKeys(&l.out.Key) },
		},
		numberField("max_keys", 1, maxKeys, func(l *limitDraft) *int { return &l.out.MaxKeys }).
			says("How many buckets are kept; default 100000."),
		numberField("ipv6_prefix", 1, 128, func(l *limitDraft) *int { return &l.out.IPv6Prefix }).
			says("Bits of an IPv6 address that are one caller; default 64."),
		scopeField(func(l *limitDraft) *Scope { return &l.out.Scope }),
		storeErrorField(func(l *limitDraft) *StoreError { return &l.out.OnStoreError }),
	},
	check: func(v value, l *limitDraft, keys keys) {
		if r := l.out.Limit.Rate; l.out.Limit.Burst == 0 && r != limiter.Unlimited {
			l.out.Limit.Burst = max(1, int(min(r, maxBurst)))
		}
		if len(l.out.Key) == 0 {
			l.out.MaxKeys = 1
		}
		checkStoreError(v, l.out.Scope, keys)
		if keys["max_keys"] != nil && keys["key"] == nil {
			keys.at(v, "max_keys").fail("add a key, or remove it", "max_keys has no effect without key: there is one bucket")
		}
		if keys["ipv6_prefix"] != nil && !slices.ContainsFunc(l.out.Key, LimitKey.byAddress) {
			keys.at(v, "ipv6_prefix").fail("add client_ip to key, or remove it", "ipv6_prefix has no effect without client_ip or principal in key")
		}
	},
}

func (v value) limitKeys(to *[]LimitKey) {
	v.list(maxLimitKeys, func(item value) {
		s, ok := item.str()
		if !ok {
			return
		}
		k, ok := item.limitKey(s)
		if !ok {
			return
		}
		if slices.ContainsFunc(*to, k.equal) {
			item.fail("remove one", "%s is listed twice", quote(s))
			return
		}
		*to = append(*to, k)
	})
	if v.emptyList() {
		v.fail("leave it out for one bucket for all, or write [client_ip]", "%s is empty", v.name)
	}
}

func (v value) limitKey(s string) (k LimitKey, ok bool) {
	if header, is := strings.CutPrefix(s, "header:"); is {
		k.Header, ok = v.fieldName(header)
		return k, ok
	}
	if strings.HasPrefix(s, "json:") {
		p, ok := v.keyPart(s)
		if ok && p.pointer.many() {
			v.fail("name one element: json:/items/0/sku", "%s names several values, and a caller has one key", quote(s))
			return k, false
		}
		k.Body = Key{[]keyPart{p}}
		return k, ok
	}
	words := []string{KeyPrincipal, KeyClientIP}
	if !slices.Contains(words, s) {
		v.fail(suggest(s, append(words, "header:X-Customer-Id", "json:/customer_id"), "it is one of"), "%s cannot tell callers apart", quote(s))
		return k, false
	}
	k.Word = s
	return k, true
}

func scopeField[T any](of func(*T) *Scope) field[T] {
	return choiceField("scope", []Scope{ScopeLocal}, []Scope{ScopeCluster}, of).
		says("Whether each node counts for itself, or all of them together; default local.")
}

func storeErrorField[T any](of func(*T) *StoreError) field[T] {
	return choiceField("on_store_error", []StoreError{StoreLocal, StoreOpen, StoreClosed}, nil, of).
		says("What a node does while it cannot reach the store of scope: cluster; default local.")
}

// checkStoreError reports what has no effect without a shared store.
func checkStoreError(v value, scope Scope, keys keys) {
	if keys["on_store_error"] != nil && scope != ScopeCluster {
		keys.at(v, "on_store_error").fail("remove it: each node counts for itself", "on_store_error has no effect without scope: cluster")
	}
}
