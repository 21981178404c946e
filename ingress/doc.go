// Package ingress is the data plane: it matches a request with a route of the
// policy, bounds and cleans it, splits it where the route says so, makes it
// durable, and answers with a receipt that its caller can follow.
//
// What it promises:
//
//   - 202 is written only after the buffer's Append returned: what was accepted
//     survives a crash and a power cut. Of a body that is split, all is stored or
//     none. A problem document means that the caller may send the request again.
//     A connection that breaks before an answer leaves the caller not knowing, as
//     with any server.
//   - A request with an idempotency key is stored once; sent again, it gets the
//     first one's receipt.
//   - Nothing unbounded is held: bodies, what they inflate and split to, their
//     memory in sum, request targets, waits and streams of events each have a
//     limit.
//   - Credentials, hop-by-hop fields and fields that claim who the caller is
//     are never stored.
//   - Every error is an application/problem+json document with the request's
//     id. Causes inside Forebay stay in the log.
//
// What it does not promise: that a request sent twice without a key is stored
// once, and that the message of a caller who left before the answer was not
// stored.
//
// The policy is read once per request. Ingress and drains never call each
// other; the buffer is where they meet, and estimates come in as a function.
package ingress
