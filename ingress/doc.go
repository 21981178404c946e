// Package ingress is the data plane: it matches a request with a route of the
// policy, bounds and cleans it, makes it durable, and answers with a receipt
// that its caller can follow.
//
// What it promises:
//
//   - 202 is written only after the buffer's Append returned: what was accepted
//     survives a crash and a power cut. Any other status but 200 means that the
//     caller may send the request again. A connection that breaks before an
//     answer leaves the caller not knowing, as with any server.
//   - Nothing unbounded is held: bodies, their memory in sum, request targets
//     and waits each have a limit.
//   - Credentials, hop-by-hop fields and fields that claim who the caller is
//     are never stored.
//   - Every error is an application/problem+json document with the request's
//     id. Causes inside Forebay stay in the log.
//
// What it does not promise: that a request sent twice is stored once, and that
// the message of a caller who left before the answer was not stored.
//
// The policy is read once per request. Ingress and drains never call each
// other; the buffer is where they meet, and estimates come in as a function.
package ingress
