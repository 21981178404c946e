// Package admin is the operator's side of the program over HTTP: health,
// metrics, profiles and the JSON API that the client commands use.
//
// It is not for callers. It listens on loopback unless a token is set, answers
// only requests whose Host is a loopback name or an address (a web page that
// rebinds its own name has neither), refuses cross-origin writes, and compares
// the token in constant time.
package admin
