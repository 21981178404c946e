package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"forebay/buffer"
	"forebay/cmd/forebay/config"
)

func newEncryption() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "encryption",
		Short: "Make and exchange the keys of a data directory",
		Args:  cobra.ArbitraryArgs,
		RunE:  group,
	}
	cmd.AddCommand(newNewKey(), newRotate())
	return cmd
}

func newNewKey() *cobra.Command {
	return &cobra.Command{
		Use:   "new-key FILE",
		Short: "Write a new master key to a file",
		Long: `Write a new master key to a file, which must not exist, and which its owner alone may
read. Name it as buffer.encryption_key_file, and keep a copy apart from the data
directory and its backups: without the key nobody reads what is in them.`,
		Example: "  forebay encryption new-key /etc/forebay/buffer.key",
		Args:    exactly("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := writeKeyFile(args[0]); err != nil {
				return err
			}
			keys, _, err := buffer.ReadMasterKeys(args[0])
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "wrote master key %s to %s; keep a copy of it apart from data and backups\n", keys[0].ID(), args[0])
			return err
		},
	}
}

func writeKeyFile(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return hinted{fmt.Errorf("%s exists, and a key is never overwritten", path), "choose another name; to exchange a key, put the new one before the old one in the key file, and run 'forebay encryption rotate'"}
	}
	if err != nil {
		return fmt.Errorf("key file: %w", err)
	}
	_, err = fmt.Fprintf(f, "# master key of a Forebay buffer, made %s\n%s\n", time.Now().UTC().Format(time.DateOnly), buffer.NewMasterKey())
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("key file: %w", err)
	}
	return syncDir(filepath.Dir(path))
}

func newRotate() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "Wrap the keys of a data directory by another master key",
		Long: `Wrap the keys of a data directory by the first master key of a key file; the one that
wraps them now has to be among the others. What is stored stays as it is, and gets a
new data key from now on. No server may run there. It is done in one step: after an
interruption it has happened or it has not, and can be run again. When it has ended,
the lines of older keys can go, once no backup needs them.`,
		Example: "  forebay encryption rotate --data /var/lib/forebay --key-file /etc/forebay/buffer.key",
		Args:    exactly(),
	}
	dir, out := cmd.Flags().String("data", "", "the data `DIR`"), formatFlag(cmd)
	file := cmd.Flags().String("key-file", "", "the `FILE` of the master keys, the new one first")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := missing(cmd, "data", *dir, "key-file", *file); err != nil {
			return err
		}
		masters, err := readMasters(*file, cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		r, err := buffer.RotateKey(*dir, masters)
		if _, ok := errors.AsType[*buffer.WrongKeyError](err); ok {
			err = hinted{err, "keep that key behind the new one in the key file until this has ended"}
		}
		if errors.Is(err, buffer.ErrInUse) {
			err = hinted{err, "stop the server there, rotate, and start it again"}
		}
		if err != nil {
			return err
		}
		return printRotation(cmd.OutOrStdout(), *out, r)
	}
	return cmd
}

// rotation is what rotate prints as JSON.
type rotation struct {
	Rewrapped int    `json:"rewrapped"` // data keys; 0: the first master key was in use already
	From      string `json:"from"`
	To        string `json:"to"`
}

func printRotation(w io.Writer, to format, r buffer.Rotation) error {
	if to == "json" {
		return printJSON(w, rotation{r.Wrapped, r.From, r.To})
	}
	text := fmt.Sprintf("master key %s is in use already; nothing to do", r.To)
	if r.Wrapped > 0 {
		text = fmt.Sprintf("data keys that master key %s wrapped, and %s wraps now: %d", r.From, r.To, r.Wrapped)
	}
	_, err := fmt.Fprintln(w, text)
	return err
}

// keySource is where a command has master keys from.
type keySource struct{ file, config string }

func keyFlags(cmd *cobra.Command) *keySource {
	k := &keySource{}
	cmd.Flags().StringVar(&k.file, "encryption-key-file", "", "the `FILE` of the master keys, where the directory is encrypted")
	cmd.Flags().StringVar(&k.config, "config", "", "or the server's forebay.yaml, as `FILE`, which names it")
	return k
}

// read returns no keys where none are named.
func (k *keySource) read(warn io.Writer) ([]buffer.MasterKey, error) {
	file := k.file
	if k.config != "" && file != "" {
		return nil, usageError{errors.New("--encryption-key-file and --config both name a key file"), "pass one of them"}
	}
	if k.config != "" {
		var err error
		if file, err = config.KeyFile(k.config); err != nil {
			return nil, err
		}
	}
	if file == "" {
		return nil, nil
	}
	return readMasters(file, warn)
}

func readMasters(file string, warn io.Writer) ([]buffer.MasterKey, error) {
	keys, warning, err := buffer.ReadMasterKeys(file)
	if warning != "" {
		fmt.Fprintln(warn, "warning: "+warning)
	}
	return keys, err
}
