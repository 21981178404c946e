// Package buffer is the durable log between ingress and the drains.
//
// A stream is an ordered sequence of messages, stored once; every drain of the
// stream reads all of it with its own finished set, retries and outcomes. The
// verbs are append, take, ack, release and bury.
//
// What it promises: Append returns only after the fsync that covers its
// messages returned, so they survive kill -9, an OS crash and a power cut. An
// ack, release or bury is durable within 100 ms; a crash before that repeats
// the delivery and loses nothing. A message is never invented, and a damaged
// one is counted and reported, never handed out.
//
// A message that waits for long costs what it takes itself: sealed segments with
// little that is needed, or with many small blocks, are rewritten in the background,
// with the same offsets and ids.
//
// What it does not promise: exactly-once delivery, or anything on a disk that
// lies about flushing.
//
// [Engine] stores in Badger segments, [buffertest.Mem] in memory; one
// conformance suite in buffertest holds both to the contract of [Buffer].
package buffer
