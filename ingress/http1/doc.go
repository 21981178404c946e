// Package http1 serves HTTP/1.1 at little cost. It is what net/http's server is
// for everything but speed and strictness, and takes an ordinary http.Handler.
//
// What it does otherwise than net/http:
//
//   - A connection is one goroutine, one buffer and one request that are used
//     again: nothing of a request, its header or its body may be kept once
//     ServeHTTP has returned. Strings may.
//   - Framing is read as RFC 9112 has it, and nothing beyond it: a bare LF, a
//     folded field, two lengths, a length beside Transfer-Encoding and fields
//     that are not well-formed are refused, and the connection closes. So nobody
//     in front can see another end of a request than Forebay does.
//   - Time-outs are looked after by one goroutine for all connections, twice a
//     second, instead of a timer set four times a request.
//   - That a caller has left is seen half a second late, and only where somebody
//     asked for the context's Done channel.
//   - No Content-Type is guessed, no value of net/http is in the context, and
//     header fields that are set after WriteHeader are still sent.
//   - An answer is one write. Only what is flushed, or is longer than 64 KiB, is
//     streamed.
//
// HTTP/1.0 and connections that change their protocol are handed, with what was
// read, to the http.Server that it was made of.
package http1
