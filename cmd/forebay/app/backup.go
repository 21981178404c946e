package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"forebay/buffer"
	"forebay/cmd/forebay/admin"
)

// backup begins a copy of the data directory. The operator log says who has one: the
// orders of all callers are in it.
func (a *App) backup(ctx context.Context, act admin.Act) (admin.Backup, error) {
	l, err := a.parts()
	if err != nil {
		return admin.Backup{}, err
	}
	besides, err := l.operator.files()
	if err != nil {
		return admin.Backup{}, err
	}
	b, err := l.engine.Backup(ctx, a.version, besides)
	if errors.Is(err, buffer.ErrBackingUp) {
		return admin.Backup{}, fmt.Errorf("%w: %w", admin.ErrBusy, err)
	}
	if errors.Is(err, buffer.ErrClosed) {
		return admin.Backup{}, fmt.Errorf("stopping: %w", admin.ErrNotReady)
	}
	if err != nil {
		return admin.Backup{}, err
	}
	l.events.add(time.Now(), admin.Event{
		Kind: "backup", Object: "forebay", Actor: act.Actor, Reason: act.Reason, Detail: fmt.Sprintf("%d bytes", b.Bytes),
	})
	return admin.Backup{Bytes: b.Bytes, Write: b.Write, Close: b.Close}, nil
}

// files are the operator's own in the data directory, as they are now.
func (o *operator) files() (list []buffer.BackupFile, err error) {
	o.keeper.mu.Lock()
	list, err = appendFiles(list, o.keeper.dir, controlFile)
	o.keeper.mu.Unlock()
	if err != nil {
		return nil, err
	}
	o.events.mu.Lock() // no file takes the place of the other meanwhile
	defer o.events.mu.Unlock()
	return appendFiles(list, o.events.dir, formerEventsFile, eventsFile)
}

// appendFiles reads those that are there.
func appendFiles(list []buffer.BackupFile, dir string, names ...string) ([]buffer.BackupFile, error) {
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("back up: %w", err)
		}
		list = append(list, buffer.BackupFile{Name: name, Data: data})
	}
	return list, nil
}

// CheckControl says whether what operators hold back in a data directory can be
// read: a start refuses it if not.
func CheckControl(dir string) error {
	_, err := readControl(dir)
	return err
}

// ControlFile is where that is, in the data directory.
const ControlFile = controlFile
