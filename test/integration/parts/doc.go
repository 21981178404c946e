// Package parts runs the real servers that the integration tests need, each on
// free ports with data of its own, and Forebay beside them. What it starts can
// be killed, held and started again on the same data and ports, and ends with
// the test, or with the test's process.
//
// The servers are fetched by `make parts`. One that is missing fails the test:
// nothing is skipped. All functions end the test where something goes wrong, so
// they are called on its own goroutine, and one server is used by one goroutine
// at a time.
package parts
