package policies

import (
	"net/url"
	"regexp"
	"time"
)

const (
	maxTopics = 100

	maxRecordBatch = 64 << 20
	maxLag         = 1_000_000_000
	maxBulk        = 100_000
	maxBulkBytes   = 100 << 20 // what Elasticsearch takes by default
	maxRoll        = 64 << 30
	maxRollAge     = 24 * time.Hour
)

var (
	topicForm = regexp.MustCompile(`^[0-9A-Za-z._-]{1,249}$`)
	groupForm = regexp.MustCompile(`^[!-~]{1,255}$`)
	// An index of Elasticsearch, and a path of HDFS, with {date} where the day goes.
	indexForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9._-]|\{date\})*$`)
	hdfsForm  = regexp.MustCompile(`^/([^{}?#%\\:\x00-\x1f\x7f]|\{date\})*$`)
)

var kafkaSchema = schema[KafkaSink]{
	what: "a kafka sink",
	preset: func(k *KafkaSink) {
		k.Acks, k.Compression, k.MaxBatchBytes = AcksAll, "zstd", 1<<20
		k.ConnectTimeout, k.Timeout = defaultConnectTimeout, defaultTimeout
	},
	fields: append(connectionFields(func(k *KafkaSink) *KafkaConnection { return &k.KafkaConnection }),
		wordField("topic", topicForm, "letters, digits, . _ and -", func(k *KafkaSink) *string { return &k.Topic }).must("registrations.v1").
			says("The topic that messages become records of."),
		choiceField("acks", []Acks{AcksAll, AcksLeader}, nil, func(k *KafkaSink) *Acks { return &k.Acks }).
			says("Who has to have a record before it counts as delivered; default all in-sync replicas."),
		choiceField("compression", []string{"zstd", "lz4", "snappy", "gzip", "none"}, nil, func(k *KafkaSink) *string { return &k.Compression }).
			says("Of batches of records; default zstd."),
		sizeField("max_batch_bytes", 1<<10, maxRecordBatch, func(k *KafkaSink) *int64 { return &k.MaxBatchBytes }).such("1MiB").
			says("The most bytes of a batch of records before compression, and so of a record: what max.message.bytes of the topic allows; default 1MiB."),
		timeoutField(func(k *KafkaSink) (connect, total *time.Duration) { return &k.ConnectTimeout, &k.Timeout }),
		optional("max_consumer_lag", &lagSchema, func(k *KafkaSink) **ConsumerLag { return &k.MaxConsumerLag }).
			says("Holds back while a consumer group of the topic is behind."),
	),
	check: func(v value, k *KafkaSink, keys keys) { checkConnection(v, &k.KafkaConnection, keys) },
}

var lagSchema = schema[ConsumerLag]{
	what: "max_consumer_lag",
	fields: []field[ConsumerLag]{
		wordField("group", groupForm, "the group's id", func(l *ConsumerLag) *string { return &l.Group }).must("crm").
			says("The consumer group."),
		numberField("messages", 1, maxLag, func(l *ConsumerLag) *int { return &l.Messages }).must("100000").
			says("How far it may be behind."),
	},
}

var elasticsearchSchema = schema[ElasticsearchSink]{
	what: "an elasticsearch sink",
	preset: func(e *ElasticsearchSink) {
		e.Bulk, e.Location = Bulk{MaxMessages: 1000, MaxBytes: 5 << 20}, time.UTC
	},
	fields: []field[ElasticsearchSink]{
		plainURLs(func(e *ElasticsearchSink) *[]*url.URL { return &e.URLs }, `["https://es-1:9200"]`),
		wordField("index", indexForm, "small letters, digits, . _ - and {date}", func(e *ElasticsearchSink) *string { return &e.Index }).must(`"logs-{date}"`).
			says("The index; {date} is the day on which a message was accepted."),
		zoneField("location", func(e *ElasticsearchSink) **time.Location { return &e.Location }).
			says("The time zone of {date}; default UTC."),
		nested("bulk", &bulkSchema, func(e *ElasticsearchSink) *Bulk { return &e.Bulk }).
			says("How much goes into one request."),
	},
}

var bulkSchema = schema[Bulk]{
	what: "bulk",
	fields: []field[Bulk]{
		numberField("max_messages", 1, maxBulk, func(b *Bulk) *int { return &b.MaxMessages }).such("1000").
			says("The most messages of a request; default 1000."),
		sizeField("max_bytes", 1, maxBulkBytes, func(b *Bulk) *int64 { return &b.MaxBytes }).
			says("The most bytes of a request; default 5MiB."),
	},
}

var webHDFSSchema = schema[WebHDFSSink]{
	what: "a webhdfs sink",
	preset: func(w *WebHDFSSink) {
		w.Roll, w.Location, w.Compression = Roll{MaxBytes: 128 << 20, MaxAge: 15 * time.Minute}, time.UTC, "none"
	},
	fields: []field[WebHDFSSink]{
		plainURLs(func(w *WebHDFSSink) *[]*url.URL { return &w.URLs }, `["http://nn1:9870"]`),
		wordField("path", hdfsForm, `an absolute path, such as "/warehouse/logs/dt={date}"`, func(w *WebHDFSSink) *string { return &w.Path }).
			must(`"/warehouse/logs/dt={date}"`).says("The folder of the files; {date} is the day on which a message was accepted."),
		zoneField("location", func(w *WebHDFSSink) **time.Location { return &w.Location }).
			says("The time zone of {date}; default UTC."),
		nested("roll", &rollSchema, func(w *WebHDFSSink) *Roll { return &w.Roll }).
			says("When a file is finished and the next begins."),
		choiceField("compression", []string{"none", "gzip"}, nil, func(w *WebHDFSSink) *string { return &w.Compression }).
			says("Of the files; default none."),
	},
}

var rollSchema = schema[Roll]{
	what: "roll",
	fields: []field[Roll]{
		sizeField("max_bytes", 1<<20, maxRoll, func(r *Roll) *int64 { return &r.MaxBytes }).such("128MiB").
			says("At this size; default 128MiB."),
		durationField("max_age", time.Second, maxRollAge, func(r *Roll) *time.Duration { return &r.MaxAge }).
			says("At this age; default 15m."),
	},
}

// plainURLs are urls of a sink that dials no address which is refused otherwise.
func plainURLs[T any](of func(*T) *[]*url.URL, example string) field[T] {
	f := urlsField[T](example, nil).says("Where it is; with several, another is tried when one fails.")
	f.read = func(v value, to *T) {
		var at []value
		v.urls(of(to), &at)
		checkAddresses(*of(to), at, &HTTPSink{})
	}
	return f
}
