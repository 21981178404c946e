// Command forebay takes a flash sale into a durable buffer and releases it to
// the services behind it at the rate their policy allows.
package main

import (
	"context"
	"os"
	_ "time/tzdata" // calendars must not depend on the machine's zone files
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
