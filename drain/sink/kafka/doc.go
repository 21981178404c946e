// Package kafka delivers messages as records of a Kafka topic.
//
// A [Sink] is one idempotent producer. An attempt produces its messages and waits
// until the brokers have acknowledged or refused each of them, so that a message
// counts as delivered only when those that the policy names have its record.
//
// What it promises: value, key, time and end-to-end fields arrive as they were
// accepted. Within an attempt a request that was lost is sent again without
// doubling its records. A record that is refused fails its own message: where a
// batch is refused as a whole, its records are sent apart to find out which it is.
// A cluster that is away fails attempts before anything is produced, so that what
// it missed does not reach it all at once.
//
// What it does not promise: no record twice after an attempt that ended without an
// answer, or with acks: leader. Both carry the same Forebay-Id.
package kafka
