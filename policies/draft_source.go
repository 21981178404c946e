package policies

import (
	"time"

	"go.yaml.in/yaml/v3"
)

const maxSources = 500

type sourceDraft struct {
	name, stream text
	out          Source
}

var sourceSchema = schema[sourceDraft]{
	what:   "a source",
	oneOf:  []string{"kafka"},
	preset: func(s *sourceDraft) { s.out.Path = "/" },
	fields: []field[sourceDraft]{
		nameField(func(s *sourceDraft) *text { return &s.name }).says("Unique among sources."),
		optional("kafka", &kafkaSourceSchema, func(s *sourceDraft) **KafkaSource { return &s.out.Kafka }).
			such(`{ brokers: ["kafka-1:9093"], topics: [orders.raw], group: forebay }`).says("Topics of Kafka."),
		refField("stream", func(s *sourceDraft) *text { return &s.stream }).must("orders").says("The stream that it feeds."),
		{
			name: "path", shape: pathShape, about: "Where an http sink's request goes; default /.",
			read: func(v value, s *sourceDraft) { v.path(&s.out.Path) },
		},
		{
			name: "from", shape: shape{"type": "string", "pattern": "^(oldest|latest|[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9:.Zz+-]+)$"}, read: readFrom,
			about: "Where a group without offsets starts: oldest, latest or an RFC 3339 time; default latest.",
		},
		{
			name: "on_refused", read: readRefused,
			shape: shape{"anyOf": []shape{enumShape([]string{refusedStop}), refusedSchema.shape()}},
			about: "What becomes of a record that cannot be taken in: stop, or { topic: NAME }; default stop.",
		},
	},
}

var kafkaSourceSchema = schema[KafkaSource]{
	what: "a kafka source",
	fields: append(connectionFields(func(k *KafkaSource) *KafkaConnection { return &k.KafkaConnection }),
		wordsField("topics", topicForm, "letters, digits, . _ and -", maxTopics, func(k *KafkaSource) *[]string { return &k.Topics }).must("[orders.raw]").
			says("The topics that are read."),
		wordField("group", groupForm, "the group's id", func(k *KafkaSource) *string { return &k.Group }).must("forebay").
			says("The consumer group."),
	),
	check: func(v value, k *KafkaSource, keys keys) { checkConnection(v, &k.KafkaConnection, keys) },
}

func readFrom(v value, s *sourceDraft) {
	word, ok := v.word("oldest, latest or a time")
	if !ok {
		return
	}
	switch word {
	case fromOldest:
		s.out.FromOldest = true
	case fromLatest:
	default:
		at, err := time.Parse(time.RFC3339, word)
		if err != nil {
			v.fail("write oldest, latest or a time such as 2027-11-10T00:00:00Z", "%s cannot be %s", v.name, quote(word))
			return
		}
		s.out.Since = at
	}
}

// refusedStop is what a source does with a record that it cannot take in.
const refusedStop = "stop"

var refusedSchema = schema[Source]{
	what: "on_refused",
	fields: []field[Source]{
		wordField("topic", topicForm, "letters, digits, . _ and -", func(s *Source) *string { return &s.RefusedTopic }).must("orders.refused").
			says("The topic that such records are written to."),
	},
}

func readRefused(v value, s *sourceDraft) {
	if v.node.Kind == yaml.MappingNode {
		refusedSchema.read(v, &s.out)
		return
	}
	if v.node.Kind != yaml.ScalarNode || v.node.Value != refusedStop {
		v.fail("write `on_refused: stop`, or `on_refused: { topic: orders.refused }`", "on_refused cannot be %s", kind(v.node))
	}
}
