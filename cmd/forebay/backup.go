package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"forebay/buffer"
	"forebay/cmd/forebay/admin"
)

func newBackup() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "backup",
		Short: "Copy the buffer of a running server into one file",
		Long: `Copy the buffer of a running server into one file, as it is at one instant:
messages, what happened to them, receipts and the key they are made with, the
operator log, pauses. The server goes on meanwhile. The file is checked while it is
written, and has its name only once all of it is on disk. Keep it as you keep the
data directory: the orders are in it.`,
		Example: "  forebay backup --to orders.backup\n  forebay backup --to - | ssh elsewhere 'cat > orders.backup'",
		Args:    exactly(),
	}
	c := clientFlags(cmd)
	c.patience = 0
	to := cmd.Flags().String("to", "", "write the backup to `F`, which must not exist; - is stdout")
	reason := cmd.Flags().String("reason", "", "why; the operator log keeps it")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := missing(cmd, "to", *to); err != nil {
			return err
		}
		ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		b := backupCommand{client: c, reason: *reason, stderr: cmd.ErrOrStderr()}
		if *to == "-" {
			return interrupted(ctx, b.copy(ctx, cmd.OutOrStdout(), cmd.ErrOrStderr()))
		}
		return interrupted(ctx, b.file(ctx, *to, cmd.OutOrStdout()))
	}
	return cmd
}

// interrupted says in plain words that somebody ended a command.
func interrupted(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return errors.New("interrupted; nothing is left behind")
	}
	return err
}

type backupCommand struct {
	client *client
	reason string
	stderr io.Writer
}

// file writes a backup under a name that it gets at the end.
func (b backupCommand) file(ctx context.Context, path string, stdout io.Writer) (err error) {
	if err := absent(path); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return underName(path, err)
	}
	defer func() {
		if err != nil {
			_ = f.Close() // the error is the first
			_ = os.Remove(f.Name())
		}
		if perr, ok := errors.AsType[*fs.PathError](err); ok && perr.Path == f.Name() {
			err = underName(path, err)
		}
	}()
	if err := b.copy(ctx, f, stdout); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	if err := absent(path); err != nil { // it took a while
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	return syncDir(filepath.Dir(path))
}

// underName tells of a failure with the name that was asked for: that of the file
// under way means nothing to anyone.
func underName(path string, err error) error {
	if perr, ok := errors.AsType[*fs.PathError](err); ok {
		err = &fs.PathError{Op: perr.Op, Path: path, Err: perr.Err}
	}
	return fmt.Errorf("backup: %w", err)
}

// absent refuses to overwrite.
func absent(path string) error {
	_, err := os.Lstat(path)
	if err == nil {
		return hinted{fmt.Errorf("%s exists, and a backup overwrites nothing", path), "choose another name, or remove it"}
	}
	if !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("backup: %w", err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	return nil
}

// copy asks the server for a backup, and checks what it sends.
func (b backupCommand) copy(ctx context.Context, to, say io.Writer) error {
	resp, err := b.client.send(ctx, http.MethodPost, "/api/v1/backup", admin.Act{Reason: b.reason})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes))
		if err != nil {
			return fmt.Errorf("read answer of %s: %w", b.client.adminURL, err)
		}
		return refusal(resp.StatusCode, raw)
	}
	p := startProgress(b.stderr, "backup")
	sink := &countedWriter{to: to, of: resp.ContentLength, tell: p.set}
	begin := time.Now()
	info, err := buffer.CheckBackup(io.TeeReader(resp.Body, sink))
	p.end()
	switch {
	case sink.err != nil:
		return fmt.Errorf("backup: %w", sink.err)
	case err != nil:
		return hinted{err, "the server's log says why it was cut off"}
	}
	_, err = fmt.Fprintf(say, "backed up %s in %d files, as of %s, in %s\n", bytesText(info.Bytes), info.Files, info.At.UTC().Format(time.RFC3339), time.Since(begin).Round(time.Millisecond))
	return err
}

// countedWriter writes, says how much, and keeps its own error apart from the reader's.
type countedWriter struct {
	to    io.Writer
	n, of int64
	tell  func(n, of int64)
	err   error
}

func (c *countedWriter) Write(p []byte) (n int, err error) {
	n, c.err = c.to.Write(p)
	c.n += int64(n)
	c.tell(c.n, c.of)
	return n, c.err
}

func newRestore() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "restore",
		Short: "Make a data directory of a backup",
		Long: `Make a data directory of a backup. Every checksum is checked, and all of it is on
disk when the command ends; after a failure nothing is left. What was delivered
since the backup was taken is delivered again by a server that starts there.`,
		Example: "  forebay restore --from orders.backup --data /var/lib/forebay",
		Args:    exactly(),
	}
	from := cmd.Flags().String("from", "", "read the backup in `F`; - is stdin")
	dir := cmd.Flags().String("data", "", "make `DIR`, which must not exist, or be empty")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := missing(cmd, "from", *from, "data", *dir); err != nil {
			return err
		}
		ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		in := cmd.InOrStdin()
		if *from != "-" {
			f, err := os.Open(*from)
			if err != nil {
				return fmt.Errorf("restore: %w", err)
			}
			defer f.Close()
			in = f
		}
		p := startProgress(cmd.ErrOrStderr(), "restore")
		begin := time.Now()
		info, err := buffer.Restore(ctx, in, *dir, p.set)
		p.end()
		if errors.Is(err, buffer.ErrBackup) {
			err = hinted{err, "nothing was restored; use another backup"}
		}
		if err != nil {
			return interrupted(ctx, err)
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "restored %s in %d files, as of %s, in %s\n", bytesText(info.Bytes), info.Files, info.At.UTC().Format(time.RFC3339), time.Since(begin).Round(time.Millisecond))
		return err
	}
	return cmd
}
