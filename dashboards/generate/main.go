// Command generate writes the dashboards to the folder it is run in.
package main

import (
	"fmt"
	"os"

	"forebay/dashboards"
)

func main() {
	for name, text := range dashboards.Build() {
		if err := os.WriteFile(name, text, 0o644); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}
