package policies

import (
	"net/url"
	"regexp"
	"time"
)

const (
	maxBulk      = 100_000
	maxBulkBytes = 100 << 20 // what Elasticsearch takes by default
	maxBulkWait  = time.Minute
)

var elasticsearchSchema = schema[ElasticsearchSink]{
	what: "an elasticsearch sink",
	preset: func(e *ElasticsearchSink) {
		e.Bulk = Bulk{MaxMessages: 1000, MaxBytes: 5 << 20, MaxWait: 200 * time.Millisecond}
		e.HTTP.ConnectTimeout, e.HTTP.Timeout = 2*time.Second, 30*time.Second
		e.Location, e.Compression = time.UTC, "gzip"
	},
	fields: []field[ElasticsearchSink]{
		plainURLs(func(e *ElasticsearchSink) *[]*url.URL { return &e.HTTP.URLs }, `["https://es-1:9200"]`),
		{
			name: "index", example: `"logs-{date}"`, required: true, shape: patternShape(indexShape),
			about: "The index; {date} is the day on which a message was accepted, {json:/service} and {header:X-Service} are values of the message itself.",
			read:  func(v value, e *ElasticsearchSink) { v.indexName(&e.Index) },
		},
		booleanField("data_stream", func(e *ElasticsearchSink) *bool { return &e.DataStream }).
			says("Whether the index is a data stream: a document without @timestamp gets the time at which its message was accepted; default false."),
		zoneField("location", func(e *ElasticsearchSink) **time.Location { return &e.Location }).
			says("The time zone of {date}; default UTC."),
		nested("bulk", &bulkSchema, func(e *ElasticsearchSink) *Bulk { return &e.Bulk }).
			says("How much goes into one request."),
		choiceField("compression", []string{"gzip", "none"}, nil, func(e *ElasticsearchSink) *string { return &e.Compression }).
			says("Of requests; default gzip."),
		timeoutField(func(e *ElasticsearchSink) (connect, total *time.Duration) {
			return &e.HTTP.ConnectTimeout, &e.HTTP.Timeout
		}),
		nested("auth", &searchAuthSchema, func(e *ElasticsearchSink) *ElasticsearchSink { return e }).
			says("How Forebay shows the cluster who it is."),
		sinkTLS(func(e *ElasticsearchSink) *HTTPSink { return &e.HTTP }),
	},
	check: func(v value, e *ElasticsearchSink, keys keys) {
		for _, u := range e.HTTP.URLs {
			if keys["auth"] != nil && u.Scheme != "https" && isPublic(u.Hostname()) {
				keys.at(v, "auth").fail("use https in urls", "auth would be sent to %s in clear text", u.Host)
			}
		}
	},
}

var bulkSchema = schema[Bulk]{
	what: "bulk",
	fields: []field[Bulk]{
		numberField("max_messages", 1, maxBulk, func(b *Bulk) *int { return &b.MaxMessages }).such("1000").
			says("The most messages of a request; default 1000."),
		sizeField("max_bytes", 1, maxBulkBytes, func(b *Bulk) *int64 { return &b.MaxBytes }).
			says("The most bytes of a request, before compression; default 5MiB."),
		durationField("max_wait", 0, maxBulkWait, func(b *Bulk) *time.Duration { return &b.MaxWait }).
			says("How long a request waits to be full; default 200ms."),
	},
}

var searchAuthSchema = schema[ElasticsearchSink]{
	what:  "auth of an elasticsearch sink",
	oneOf: []string{"basic", "api_key"},
	fields: []field[ElasticsearchSink]{
		nested("basic", &basicSchema, func(e *ElasticsearchSink) *ElasticsearchSink { return e }).
			such(`{ username: forebay, password: "${file:/run/secrets/NAME}" }`).says("A user and his password."),
		secretField("api_key", func(e *ElasticsearchSink) *Secret { return &e.APIKey }).
			says("A reference to an API key of Elasticsearch in its encoded form: ${env:NAME} or ${file:/path}."),
	},
}

// A user name has no colon: basic auth ends it there.
var userForm = regexp.MustCompile(`^[!-9;-~]+$`)

var basicSchema = schema[ElasticsearchSink]{
	what: "basic",
	fields: []field[ElasticsearchSink]{
		wordField("username", userForm, "printable characters without space and colon", func(e *ElasticsearchSink) *string { return &e.Username }).
			must("forebay").says("The user."),
		secretField("password", func(e *ElasticsearchSink) *Secret { return &e.Password }).must(`"${file:/run/secrets/NAME}"`).
			says("A reference to his password: ${env:NAME} or ${file:/path}."),
	},
}
