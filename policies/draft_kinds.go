package policies

import (
	"fmt"
	"net/url"
	"path"
	"regexp"
	"time"
)

const (
	maxTopics = 100

	maxRecordBatch = 64 << 20
	maxLag         = 1_000_000_000
	maxRoll        = 64 << 30
	maxDataHosts   = 1000
	maxRollAge     = 24 * time.Hour
)

var (
	topicForm = regexp.MustCompile(`^[0-9A-Za-z._-]{1,249}$`)
	groupForm = regexp.MustCompile(`^[!-~]{1,255}$`)
	// A path of HDFS, with {date} where the day goes.
	dataHostForm = regexp.MustCompile(`^(\*\.)?[0-9A-Za-z._:-]+(/[0-9]{1,3})?$`)
	hdfsUserForm = regexp.MustCompile(`^[0-9A-Za-z._-]{1,64}$`)
	hdfsForm     = regexp.MustCompile(`^/([^{}?#%\\:\x00-\x1f\x7f]|\{date\})*$`)
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

var webHDFSSchema = schema[WebHDFSSink]{
	what: "a webhdfs sink",
	preset: func(w *WebHDFSSink) {
		w.Roll, w.Location, w.Compression = Roll{MaxBytes: 128 << 20, MaxAge: 15 * time.Minute}, time.UTC, "none"
		w.HTTP.ConnectTimeout, w.HTTP.Timeout = 2*time.Second, 30*time.Second
	},
	fields: []field[WebHDFSSink]{
		plainURLs(func(w *WebHDFSSink) *[]*url.URL { return &w.HTTP.URLs }, `["http://nn1:9870"]`),
		wordsField("data_hosts", dataHostForm, `a host, *.name, an address or a range`, maxDataHosts, func(w *WebHDFSSink) *[]string { return &w.DataHosts }).
			such(`["*.hdfs.internal"]`).says("Hosts that a NameNode may send data to, besides those of urls: names, *.name, addresses and ranges."),
		wordField("user", hdfsUserForm, "letters, digits, . _ and -", func(w *WebHDFSSink) *string { return &w.User }).
			such("forebay").says("The user that HDFS is told (user.name); default: none."),
		wordField("path", hdfsForm, `an absolute path, such as "/warehouse/logs/dt={date}"`, func(w *WebHDFSSink) *string { return &w.Path }).
			must(`"/warehouse/logs/dt={date}"`).says("The folder of the files; {date} is the day on which a message was accepted."),
		zoneField("location", func(w *WebHDFSSink) **time.Location { return &w.Location }).
			says("The time zone of {date}; default UTC."),
		nested("roll", &rollSchema, func(w *WebHDFSSink) *Roll { return &w.Roll }).
			says("When a file is finished and the next begins."),
		choiceField("compression", []string{"none", "gzip", "zstd"}, nil, func(w *WebHDFSSink) *string { return &w.Compression }).
			says("Of the files; default none."),
		timeoutField(func(w *WebHDFSSink) (connect, total *time.Duration) { return &w.HTTP.ConnectTimeout, &w.HTTP.Timeout }),
		sinkTLS(func(w *WebHDFSSink) *HTTPSink { return &w.HTTP }),
	},
	check: func(v value, w *WebHDFSSink, keys keys) {
		if w.Path == "" {
			return
		}
		if path.Clean(w.Path) != w.Path && path.Clean(w.Path)+"/" != w.Path {
			keys.at(v, "path").fail(fmt.Sprintf("write %q", path.Clean(w.Path)), "path %q has . or .. or an empty part", w.Path)
		}
		w.Path = path.Clean(w.Path)
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
		checkAddresses(*of(to), at, &HTTPSink{}, true)
	}
	return f
}
