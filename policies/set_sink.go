package policies

import (
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"forebay/limiter"
)

// Sink is what drains deliver to. It owns the budget.
type Sink struct {
	Name   string
	HTTP   *HTTPSink
	Budget Budget
	// MayCancel says that answers of the sink may cancel waiting messages.
	MayCancel bool
	// Breaker stops attempts at a sink that fails; zero: it has none.
	Breaker Breaker
	// SlowStart is how long the rate rises after the breaker has closed; 0: not at all.
	SlowStart time.Duration

	// One of these, or HTTP, is set.
	Kafka         *KafkaSink
	Elasticsearch *ElasticsearchSink
	WebHDFS       *WebHDFSSink
}

// Kind is the key that its policy has for what it is.
func (s Sink) Kind() string {
	switch {
	case s.Kafka != nil:
		return "kafka"
	case s.Elasticsearch != nil:
		return "elasticsearch"
	case s.WebHDFS != nil:
		return "webhdfs"
	default:
		return "http"
	}
}

// Breaker opens once at least MinRequests attempts ended within Window and the
// share FailureRatio of them or more failed.
type Breaker struct {
	FailureRatio float64 // over 0, up to 1
	MinRequests  int
	Window       time.Duration
	OpenFor      time.Duration // nothing is sent, then single probes
}

// HTTPSink delivers each message as one request.
type HTTPSink struct {
	URLs []*url.URL
	// AllowAddresses are link-local and metadata ranges that may be dialled all the same.
	AllowAddresses []netip.Prefix
	ConnectTimeout time.Duration
	Timeout        time.Duration // of an attempt, connection and body included
	Permanent      []int         // statuses that bury

	// PreserveHost sends the caller's Host in the place of the sink's own.
	PreserveHost bool
	TLS          *TLS // nil: the system's authorities, and no certificate

	Batch *Batch // nil: one message a request

	OAuth2 *OAuth2 // nil: no token is sent
	// SignSecrets are of Standard Webhooks, each good for a WebhookKey; empty: not signed.
	SignSecrets []Secret
}

// Batched is how many messages go into one request at most; 1: each goes alone.
func (s Sink) Batched() int {
	switch {
	case s.HTTP != nil && s.HTTP.Batch != nil:
		return s.HTTP.Batch.MaxMessages
	case s.Elasticsearch != nil:
		return s.Elasticsearch.Bulk.MaxMessages
	default:
		return 1
	}
}

// Keyless reports whether order per key is nothing to it: it takes messages in the order
// in which they came, or in none.
func (s Sink) Keyless() bool { return s.Elasticsearch != nil || s.WebHDFS != nil }

// Batch is several messages in one request.
type Batch struct {
	MaxMessages int
	MaxBytes    int64 // of bodies, unless one alone has more
	MaxWait     time.Duration
	Format      BatchFormat
}

// MaxNamedIDs is how many messages of a batch have their ids in its header.
const MaxNamedIDs = 200

// BatchFormat is how the messages of a batch are joined.
type BatchFormat string

// The formats of a batch.
const (
	BatchJSONArray BatchFormat = "json_array"
	BatchNDJSON    BatchFormat = "ndjson"
)

// OAuth2 fetches tokens by the client credentials grant.
type OAuth2 struct {
	TokenURL     *url.URL
	ClientID     string
	ClientSecret Secret
}

// Budget is what a sink can take, live and drained traffic together.
type Budget struct {
	Limit       limiter.Limit // burst where the policy has none: max(1, 10 ms of the rate)
	Concurrency int           // attempts in flight
	// ReserveForLive is the share of live traffic while it comes; 0: none is reserved.
	ReserveForLive float64
	Bytes          int64 // of bodies a second; 0: no bound

	Mode           ConcurrencyMode
	MinConcurrency int // that adaptive goes down to; 0 with fixed
	Scope          Scope
	OnStoreError   StoreError
}

// ConcurrencyMode says what decides on the attempts in flight.
type ConcurrencyMode string

// The modes of concurrency.
const (
	ConcurrencyFixed    ConcurrencyMode = "fixed"
	ConcurrencyAdaptive ConcurrencyMode = "adaptive"
)

// KafkaSink delivers each message as a record.
type KafkaSink struct {
	KafkaConnection

	Topic          string
	Acks           Acks
	Compression    string
	MaxBatchBytes  int64 // of a batch before compression, and so of a record
	ConnectTimeout time.Duration
	Timeout        time.Duration // of an attempt, from the call to the last acknowledgement
	MaxConsumerLag *ConsumerLag
}

// Acks is who has to have a record before it counts as delivered.
type Acks string

// The acks of Kafka that make sense of a promise to deliver.
const (
	AcksAll    Acks = "all"
	AcksLeader Acks = "leader"
)

// ConsumerLag is how far a consumer group may be behind.
type ConsumerLag struct {
	Group    string
	Messages int
}

// ElasticsearchSink makes each message a document of a search cluster.
type ElasticsearchSink struct {
	HTTP        HTTPSink // where it is, certificates and time-outs
	Index       IndexName
	Location    *time.Location // of the date
	Bulk        Bulk
	Compression string // of requests: gzip or none
	// DataStream says that Index names data streams, whose documents need a time.
	DataStream bool

	Username string // empty: no basic auth
	Password Secret
	APIKey   Secret // the encoded form, id and key; zero: none
}

// Bulk bounds one request to Elasticsearch.
type Bulk struct {
	MaxMessages int
	MaxBytes    int64 // before compression
	MaxWait     time.Duration
}

// WebHDFSSink gathers messages in files on HDFS.
type WebHDFSSink struct {
	HTTP HTTPSink // where the NameNodes are, certificates and time-outs
	// DataHosts are the hosts that NameNodes may send data to besides their own: names,
	// names with a * in the place of what is before a point, addresses, ranges.
	DataHosts   []string
	User        string         // that HDFS is told; empty: none
	Path        string         // with {date}
	Location    *time.Location // of the date
	Roll        Roll
	Compression string // none, gzip or zstd
}

// MayWriteTo reports whether data may go to a host.
func (w WebHDFSSink) MayWriteTo(host string) bool {
	for _, u := range w.HTTP.URLs {
		if strings.EqualFold(u.Hostname(), host) {
			return true
		}
	}
	addr, err := netip.ParseAddr(host)
	return slices.ContainsFunc(w.DataHosts, func(listed string) bool {
		if r, rangeErr := netip.ParsePrefix(listed); rangeErr == nil {
			return err == nil && r.Contains(addr)
		}
		if parent, ok := strings.CutPrefix(listed, "*"); ok {
			return err != nil && len(host) > len(parent) && strings.EqualFold(host[len(host)-len(parent):], parent)
		}
		return strings.EqualFold(listed, host)
	})
}

// Roll says when a file is finished.
type Roll struct {
	MaxBytes int64
	MaxAge   time.Duration
}
