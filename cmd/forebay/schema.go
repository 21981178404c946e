package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"forebay/cmd/forebay/config"
	"forebay/policies"
)

func newSchema() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "schema (policy | server)",
		Short:   "Print the JSON Schema of policy files, or of forebay.yaml, for editors",
		Example: "  forebay schema policy > forebay-policy.schema.json\n  forebay schema server",
		Args:    exactly("policy or server"), ValidArgs: []string{"policy", "server"},
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var schema []byte
		switch args[0] {
		case "policy":
			schema = policies.SchemaPolicy()
		case "server":
			schema = config.Schema()
		default:
			return usageError{fmt.Errorf("there is no schema %q", args[0]), "forebay schema policy, or forebay schema server"}
		}
		_, err := cmd.OutOrStdout().Write(schema)
		return err
	}
	return cmd
}
