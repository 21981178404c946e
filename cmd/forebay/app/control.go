package app

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"forebay/buffer/segment"
	"forebay/drain"
)

// controlFile holds what operators hold back, so that it survives a restart.
const controlFile = "control.json"

// control is the content of that file.
type control struct {
	Version int              `json:"version"`
	Drains  []drain.Hold     `json:"drains"`
	Streams []closure        `json:"streams"`
	Sinks   []drain.SinkHold `json:"sinks,omitempty"`
}

// readControl reads what a data directory has. What cannot be read refuses the
// start: a pause that is lost would deliver what someone held back.
func readControl(dir string) (control, error) {
	path := filepath.Join(dir, controlFile)
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return control{Version: 1}, nil
	}
	if err != nil {
		return control{}, fmt.Errorf("what operators hold back: %w", err)
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	var c control
	if err := dec.Decode(&c); err != nil {
		return control{}, fmt.Errorf("%s cannot be read (%w); it holds pauses, overrides and closed streams: mend it, or remove it to forget them", path, err)
	}
	if c.Version != 1 {
		return control{}, fmt.Errorf("%s has version %d, this program reads 1; start the newer program that wrote it", path, c.Version)
	}
	return c, nil
}

// writeControl replaces the file in one step; it is on disk when this returns.
func writeControl(dir string, c control) error {
	raw, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return fmt.Errorf("%s: %w", controlFile, err)
	}
	path := filepath.Join(dir, controlFile)
	if err := writeSynced(path+".new", append(raw, '\n')); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	return segment.SyncDir(dir)
}

func writeSynced(path string, raw []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(raw)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// keeper keeps the file true to what is held back.
type keeper struct {
	dir string
	log *slog.Logger

	mu   sync.Mutex // held while the file is written
	last control    // guarded by mu
}

func (k *keeper) drains(holds []drain.Hold) {
	k.keep(func(c *control) { c.Drains = holds })
}

func (k *keeper) sinks(holds []drain.SinkHold) {
	k.keep(func(c *control) { c.Sinks = holds })
}

func (k *keeper) streams(closed []closure) {
	k.keep(func(c *control) { c.Streams = closed })
}

// keep writes what changed. Where that fails the change holds all the same, for
// as long as the process runs: who needs a pause now must not be refused it.
func (k *keeper) keep(change func(*control)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	change(&k.last)
	if err := writeControl(k.dir, k.last); err != nil {
		k.log.Error("what operators hold back will not survive a restart", "err", err)
	}
}
