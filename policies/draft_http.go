package policies

import (
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"time"
)

const (
	maxURLs        = 64
	maxAddresses   = 100
	minStatus      = 300
	maxStatus      = 599
	maxStatuses    = maxStatus - minStatus + 1
	maxBatch       = 10_000
	maxBatchWait   = time.Minute
	maxSignSecrets = 8 // the present one, the next, and some to spare
)

type httpDraft struct {
	HTTPSink
	at []value // of the URLs
}

var httpSchema = schema[httpDraft]{
	what: "an http sink",
	preset: func(h *httpDraft) {
		h.ConnectTimeout, h.Timeout = defaultConnectTimeout, defaultTimeout
		h.Permanent = []int{400, 401, 403, 404, 405, 409, 410, 413, 415, 422}
	},
	fields: []field[httpDraft]{
		urlsField(`["https://orders.internal"]`, func(h *httpDraft) (*[]*url.URL, *[]value) { return &h.URLs, &h.at }).
			says("Where it is; a path replaces that of the request."),
		choiceField("balance", []string{"least_inflight"}, nil, func(*httpDraft) *string { return new(string) }).
			says("Which of several urls an attempt goes to; default and only one: least_inflight."),
		{
			name: "allow_addresses", shape: listShape(stringShape, 0, maxAddresses), read: readAddresses,
			about: "Link-local and metadata addresses or ranges that may be dialled all the same.",
		},
		timeoutField(func(h *httpDraft) (connect, total *time.Duration) { return &h.ConnectTimeout, &h.Timeout }),
		{
			name: "permanent", shape: listShape(numberShape(minStatus, maxStatus), 0, maxStatuses), read: readPermanent,
			about: "Statuses that bury a message; default 400, 401, 403, 404, 405, 409, 410, 413, 415, 422.",
		},
		sinkTLS(func(h *httpDraft) *HTTPSink { return &h.HTTPSink }),
		booleanField("preserve_host", func(h *httpDraft) *bool { return &h.PreserveHost }).
			says("Whether the sink sees the caller's Host in place of its own; default false."),
		optional("batch", &batchSchema, func(h *httpDraft) **Batch { return &h.Batch }).
			says("Several messages in one request.").such("{ max_messages: 20, format: json_array }"),
		nested("auth", &sinkAuthSchema, func(h *httpDraft) *HTTPSink { return &h.HTTPSink }).
			such("{ oauth2: { token_url: …, client_id: …, client_secret: … } }").says("How Forebay shows the sink who it is."),
		nested("sign", &signSchema, func(h *httpDraft) *HTTPSink { return &h.HTTPSink }).
			such("{ standard_webhooks: { secrets: [\"${file:/run/secrets/NAME}\"] } }").says("How deliveries are signed."),
	},
	check: func(v value, h *httpDraft, keys keys) {
		checkAddresses(h.URLs, h.at, &h.HTTPSink, false)
		checkToken(v, h, keys)
		for i, u := range h.URLs {
			if h.Batch != nil && (u.Path == "" || u.Path == "/") {
				h.at[i].fail("add the path that takes several messages at once, such as /v1/batch", "a batch is one request, and url %s says not where it goes", u)
			}
		}
	},
}

// checkToken reports what an access token cannot be fetched from, or sent to.
func checkToken(v value, h *httpDraft, keys keys) {
	if h.OAuth2 == nil || h.OAuth2.TokenURL == nil {
		return
	}
	auth := keys.at(v, "auth")
	checkAddresses([]*url.URL{h.OAuth2.TokenURL}, []value{auth}, &h.HTTPSink, false)
	for _, u := range h.URLs {
		if u.Scheme != "https" && isPublic(u.Hostname()) {
			auth.fail("use https in urls", "a token would be sent to %s in clear text", u.Host)
		}
	}
}

// checkAddresses reports urls that could never be dialled. A host name is judged
// when it is. plain says that the sink can allow none.
func checkAddresses(urls []*url.URL, at []value, h *HTTPSink, plain bool) {
	for i, u := range urls {
		addr, err := netip.ParseAddr(u.Hostname())
		if err != nil || h.MayDial(addr) {
			continue
		}
		hint := fmt.Sprintf("if it is meant, write allow_addresses: [%q]", addr)
		if plain {
			hint = "write the address of the sink: such are never dialled"
		}
		at[i].fail(hint, "address %s is link-local, a metadata service or none at all", addr)
	}
}

// urlsField is the list of urls of a sink; of says where they and their places go.
func urlsField[T any](example string, of func(*T) (*[]*url.URL, *[]value)) field[T] {
	f := field[T]{
		name: "urls", shape: listShape(patternShape("^[Hh][Tt][Tt][Pp][Ss]?://[^@?#]+$"), 1, maxURLs),
		read: func(v value, to *T) {
			urls, at := of(to)
			v.urls(urls, at)
		},
	}
	return f.must(example)
}

func (v value) urls(to *[]*url.URL, at *[]value) {
	seen := make(map[string]bool)
	v.list(maxURLs, func(item value) {
		u := item.url()
		if u == nil {
			return
		}
		if seen[u.String()] {
			item.fail("remove one", "url %s is listed twice", quote(item.node.Value))
			return
		}
		seen[u.String()] = true
		*to, *at = append(*to, u), append(*at, item)
	})
	if v.emptyList() {
		v.fail("write at least one", "urls is empty")
	}
}

// url reads one, or returns nil.
func (v value) url() *url.URL {
	s, ok := v.str()
	if !ok {
		return nil
	}
	u, message, hint := parseURL(s)
	if message != "" {
		v.fail(hint, "%s", message)
		return nil
	}
	return u
}

func urlField[T any](name string, of func(*T) **url.URL) field[T] {
	return field[T]{
		name: name, shape: patternShape("^[Hh][Tt][Tt][Pp][Ss]?://[^@?#]+$"),
		read: func(v value, to *T) { *of(to) = v.url() },
	}
}

func readAddresses(v value, h *httpDraft) {
	v.list(maxAddresses, func(item value) {
		s, ok := item.str()
		if !ok {
			return
		}
		prefix, err := netip.ParsePrefix(s)
		if addr, addrErr := netip.ParseAddr(s); addrErr == nil && addr.Zone() == "" {
			prefix, err = netip.PrefixFrom(addr, addr.BitLen()), nil
		}
		if err != nil {
			item.fail("write 169.254.10.1 or 169.254.10.0/24", "%s is not an address or a range of them", quote(s))
			return
		}
		h.AllowAddresses = append(h.AllowAddresses, prefix.Masked())
	})
}

func readPermanent(v value, h *httpDraft) {
	h.Permanent = []int{}
	v.list(maxStatuses, func(item value) {
		status := 0
		item.number(&status, minStatus, maxStatus)
		if status == 0 {
			return
		}
		if slices.Contains(h.Permanent, status) {
			item.fail("remove one", "status %d is listed twice", status)
			return
		}
		h.Permanent = append(h.Permanent, status)
	})
}

var batchSchema = schema[Batch]{
	what:   "batch",
	preset: func(b *Batch) { b.MaxBytes, b.MaxWait = 5<<20, 200*time.Millisecond },
	fields: []field[Batch]{
		numberField("max_messages", 1, maxBatch, func(b *Batch) *int { return &b.MaxMessages }).must("20").
			says("The most messages in one request."),
		sizeField("max_bytes", 1, maxBulkBytes, func(b *Batch) *int64 { return &b.MaxBytes }).such("5MiB").
			says("The most bytes of bodies in one request, unless one message has more; default 5MiB."),
		durationField("max_wait", 0, maxBatchWait, func(b *Batch) *time.Duration { return &b.MaxWait }).
			says("How long a batch waits to be full; default 200ms."),
		choiceField("format", []BatchFormat{BatchJSONArray, BatchNDJSON}, nil, func(b *Batch) *BatchFormat { return &b.Format }).must("json_array").
			says("How messages are joined."),
	},
}

var sinkAuthSchema = schema[HTTPSink]{
	what:  "auth of a sink",
	oneOf: []string{"oauth2"},
	fields: []field[HTTPSink]{
		optional("oauth2", &oauth2Schema, func(h *HTTPSink) **OAuth2 { return &h.OAuth2 }).
			such("{ token_url: …, client_id: …, client_secret: … }").says("A token of the client credentials grant."),
	},
}

var identityForm = regexp.MustCompile(`^[!-~]+( [!-~]+)*$`)

var oauth2Schema = schema[OAuth2]{
	what: "oauth2",
	fields: []field[OAuth2]{
		urlField("token_url", func(o *OAuth2) **url.URL { return &o.TokenURL }).must(`"https://id.example.com/oauth2/token"`).
			says("Where tokens are fetched."),
		wordField("client_id", identityForm, "the id that the authorization server knows", func(o *OAuth2) *string { return &o.ClientID }).must("forebay").
			says("Forebay's name at the authorization server."),
		secretField("client_secret", func(o *OAuth2) *Secret { return &o.ClientSecret }).must(`"${file:/run/secrets/NAME}"`).
			says("A reference to its secret: ${env:NAME} or ${file:/path}."),
	},
	check: func(v value, o *OAuth2, keys keys) {
		if o.TokenURL != nil && o.TokenURL.Scheme != "https" && isPublic(o.TokenURL.Hostname()) {
			keys.at(v, "token_url").fail("use https", "oauth2 would send its secret in clear text")
		}
	},
}

var signSchema = schema[HTTPSink]{
	what:  "sign",
	oneOf: []string{"standard_webhooks"},
	fields: []field[HTTPSink]{
		nested("standard_webhooks", &webhooksSchema, func(h *HTTPSink) *HTTPSink { return h }).
			such("{ secrets: [\"${file:/run/secrets/NAME}\"] }").says("The scheme of standardwebhooks.com."),
	},
}

var webhooksSchema = schema[HTTPSink]{
	what: "standard_webhooks",
	fields: []field[HTTPSink]{
		{
			name: "secrets", example: `["${file:/run/secrets/NAME}"]`, required: true,
			shape: listShape(patternShape(secretForm.String()), 1, maxSignSecrets),
			about: "References to the secrets; a delivery is signed with each, so that they can be changed.",
			read: func(v value, h *HTTPSink) {
				v.list(maxSignSecrets, func(item value) {
					if s := item.webhookSecret(); !slices.Contains(h.SignSecrets, s) || s == (Secret{}) {
						h.SignSecrets = append(h.SignSecrets, s)
						return
					}
					item.fail("remove one", "%s is a secret that is listed before", quote(item.node.Value))
				})
				if v.emptyList() {
					v.fail("write at least one", "secrets is empty")
				}
			},
		},
	},
}
