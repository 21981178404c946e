package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

// memory is what a process holds, in bytes.
type memory struct {
	Anonymous int64 `json:"anonymous"` // its own
	Mapped    int64 `json:"mapped"`    // of files, the kernel's to drop
}

// memoryOf asks the kernel about a process; Linux alone says.
func memoryOf(pid string) (m memory, err error) {
	text, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		return m, err
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		kib, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64) // other lines are no numbers
		switch name {
		case "RssAnon":
			m.Anonymous = kib << 10
		case "RssFile":
			m.Mapped = kib << 10
		}
	}
	return m, nil
}

// heapByStructure is what the heap holds after the last collection, by the innermost
// function of the buffer that took it.
func heapByStructure() map[string]float64 {
	records := make([]runtime.MemProfileRecord, 1<<12)
	n, ok := runtime.MemProfile(records, false)
	for !ok {
		records = make([]runtime.MemProfileRecord, 2*n)
		n, ok = runtime.MemProfile(records, false)
	}
	held := map[string]float64{}
	for _, r := range records[:n] {
		held[structureOf(r.Stack())] += float64(r.InUseBytes())
	}
	return held
}

func structureOf(stack []uintptr) string {
	frames := runtime.CallersFrames(stack)
	for {
		f, more := frames.Next()
		if name, ok := strings.CutPrefix(f.Function, "forebay/buffer"); ok {
			return strings.TrimLeft(name, "./")
		}
		if !more {
			return "other"
		}
	}
}

// diskByKind is what a data directory takes on disk, in bytes, by what a file is.
func diskByKind(dir string) (map[string]int64, error) {
	kinds := map[string]int64{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return ignoreGone(err)
		}
		info, err := d.Info()
		if err != nil {
			return ignoreGone(err)
		}
		kinds[kindOf(filepath.Base(path))] += allocated(info)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("measure %s: %w", dir, err)
	}
	return kinds, nil
}

// ignoreGone passes over what was removed meanwhile.
func ignoreGone(err error) error {
	if os.IsNotExist(err) {
		return nil
	}
	return err
}

func kindOf(name string) string {
	switch filepath.Ext(name) {
	case ".vlog":
		return "messages"
	case ".mem", ".sst":
		return "places"
	case ".once":
		return "idempotency records"
	case ".filter", ".outer":
		return "filters"
	case ".out":
		return "outcomes"
	}
	switch name {
	case "KEYS":
		return "keys"
	case "INDEX":
		return "index"
	case "BALLAST":
		return "ballast"
	}
	return "other"
}
