package main

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"forebay/policies"
)

func newKeys() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "Make keys for callers",
		Args:  cobra.ArbitraryArgs, RunE: group,
	}
	cmd.AddCommand(newKeysNew())
	return cmd
}

// newKey is what `keys new` prints as JSON.
type newKey struct {
	Principal string `json:"principal"`
	Key       string `json:"key"`
	Line      string `json:"line"`
}

func newKeysNew() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "new PRINCIPAL",
		Short: "Make a key for a caller, and its line for a keys_file",
		Long: `Make a key for a caller, and its line for a keys_file. The key is printed once and kept
nowhere: the line holds its digest alone. A principal may have several keys, so that one
can be exchanged for another while both are good.`,
		Example: "  forebay keys new storefront\n  forebay keys new storefront --file /run/secrets/forebay/api_keys",
		Args:    exactly("PRINCIPAL"),
	}
	out := formatFlag(cmd)
	file := cmd.Flags().String("file", "", "append the line to the keys file `F`, and print the key alone")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		k, err := makeKey(args[0])
		if err != nil {
			return usageError{err, "name who gets the key, such as storefront"}
		}
		if *file != "" {
			if err := appendLine(*file, k.Line); err != nil {
				return err
			}
		}
		w := cmd.OutOrStdout()
		switch {
		case *out == "json":
			return printJSON(w, k)
		case *file != "":
			_, err = fmt.Fprintln(w, k.Key)
		default:
			_, err = fmt.Fprintf(w, "key   %s\nline  %s\n", k.Key, k.Line)
		}
		return err
	}
	return cmd
}

func makeKey(principal string) (newKey, error) {
	var random [32]byte
	_, _ = rand.Read(random[:]) // it never fails
	key := "fbk_" + base64.RawURLEncoding.EncodeToString(random[:])
	line, err := policies.KeyLine(principal, key)
	return newKey{principal, key, line}, err
}

// appendLine makes the file where there is none, for its owner alone. One that is no
// keys file is left alone.
func appendLine(name, line string) (err error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("keys file: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	had, err := io.ReadAll(f)
	if err != nil {
		return fmt.Errorf("keys file: %w", err)
	}
	if err := policies.CheckKeyLines(string(had)); err != nil {
		return hinted{fmt.Errorf("keys file %s: %w", name, err), "mend it, or name another file; nothing was changed"}
	}
	if len(had) > 0 && had[len(had)-1] != '\n' {
		line = "\n" + line
	}
	// In one piece: a server may read it at any time.
	if _, err := f.WriteString(line + "\n"); err != nil {
		return fmt.Errorf("keys file: %w", err)
	}
	return nil
}
