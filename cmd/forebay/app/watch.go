package app

import (
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// debounce lets an editor or a deployment finish writing.
	debounce = 250 * time.Millisecond
	// pollEvery finds what no event told of: network file systems, and links
	// that lead out of the watched folders.
	pollEvery = 30 * time.Second
)

// watch calls changed once at its start, and then some time after the files
// behind paths may have changed, until ctx is done. It watches folders: a file that is replaced, as editors and
// config maps do, is another file, and a watch on the old one stays silent.
func watch(ctx context.Context, paths []string, log *slog.Logger, changed func()) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		log.Warn("policy files are polled, not watched", "every", pollEvery, "err", err)
		return watchLoop(ctx, nil, nil, changed, log)
	}
	defer w.Close() //nolint:errcheck // the process has no use for it any more
	for _, dir := range folders(paths) {
		if err := w.Add(dir); err != nil {
			log.Warn("policy folder is polled, not watched", "dir", dir, "every", pollEvery, "err", err)
		}
	}
	return watchLoop(ctx, w.Events, w.Errors, changed, log)
}

func watchLoop(ctx context.Context, events <-chan fsnotify.Event, errs <-chan error, changed func(), log *slog.Logger) error {
	quiet := time.NewTimer(debounce)
	quiet.Stop()
	defer quiet.Stop()
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	changed() // what happened before the folders were watched told nobody
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-events:
			quiet.Reset(debounce)
		case err := <-errs:
			log.Warn("watch policy files", "err", err)
		case <-quiet.C:
			changed()
		case <-poll.C:
			changed()
		}
	}
}

// folders lists the folders that hold what paths match.
func folders(paths []string) []string {
	var dirs []string
	seen := map[string]bool{}
	add := func(dir string) {
		if !seen[dir] {
			seen[dir] = true
			dirs = append(dirs, dir)
		}
	}
	for _, path := range paths {
		dir := filepath.Dir(path)
		if !strings.ContainsAny(dir, `*?[\`) {
			add(dir)
			continue
		}
		matches, err := filepath.Glob(dir)
		if err != nil {
			continue // the policy was loaded from it: the pattern is sound
		}
		for _, m := range matches {
			add(m)
		}
	}
	return dirs
}
