// Package http delivers messages as HTTP requests.
//
// A [Sink] makes one request per message and one attempt per request. Drains
// call [Sink.Deliver]; live traffic uses [Sink.Upstream], so that both share
// the choice of a URL. Attempts with a body of up to 64 KiB have connections of their own
// that they write and read by themselves (client.go): a third of what the standard
// library's transport takes of the processor, which does all else. The tests of
// Deliver are run with either.
//
// What it promises: body, method and end-to-end fields arrive as they were
// accepted; the transport never writes a request again by itself once it was
// written, unless its method is safe; redirects are not followed; no proxy is
// used; link-local and metadata addresses are refused when they are dialled,
// whatever a name resolves to. Whatever a sink answers, or does not, is an
// outcome: time, fields and body of an answer are bounded.
//
// What it does not promise: HTTP/2. Connections are HTTP/1.1, so that attempts
// in flight are connections in use. Of those that are not in use as many may be kept as the
// sink has slots, by drains and by live traffic each, for 90 s.
package http
