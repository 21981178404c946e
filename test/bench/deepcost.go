package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/metrics"
	"runtime/pprof"
	"strconv"
	"strings"
)

// cost is what this process took of the machine so far.
type cost struct {
	CPU     float64 `json:"cpu"`     // seconds, in the kernel too
	GC      float64 `json:"gc"`      // of them collecting garbage, about
	Written int64   `json:"written"` // bytes that it caused to be written to a disk
	Read    int64   `json:"read"`    // and to be read from one
}

// costSoFar asks the kernel; Linux alone says all of it.
func costSoFar() (c cost) {
	user, system := ownTimes()
	c.CPU = (user + system).Seconds()
	sample := []metrics.Sample{{Name: "/cpu/classes/gc/total:cpu-seconds"}}
	metrics.Read(sample)
	if sample[0].Value.Kind() == metrics.KindFloat64 {
		c.GC = sample[0].Value.Float64()
	}
	text, err := os.ReadFile("/proc/self/io")
	if err != nil {
		return c
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		n, _ := strconv.ParseInt(value, 10, 64) // the kernel writes numbers
		switch name {
		case "write_bytes":
			c.Written = n
		case "read_bytes":
			c.Read = n
		}
	}
	return c
}

func (c cost) less(before cost) cost {
	return cost{c.CPU - before.CPU, c.GC - before.GC, c.Written - before.Written, c.Read - before.Read}
}

// profiles are CPU profiles of this process, a file a tenth.
type profiles struct {
	dir  string // empty: none are made
	file *os.File
}

// next ends the profile under way and begins that of the tenth; at ten it begins none.
func (p *profiles) next(tenth int) (err error) {
	if p.dir == "" {
		return nil
	}
	if p.file != nil {
		pprof.StopCPUProfile()
		err = p.file.Close()
		p.file = nil
	}
	if tenth == 10 || err != nil {
		return err
	}
	if err = os.MkdirAll(p.dir, 0o700); err != nil {
		return err
	}
	if p.file, err = os.Create(filepath.Join(p.dir, fmt.Sprintf("tenth-%d.pprof", tenth+1))); err != nil {
		return err
	}
	if err = pprof.StartCPUProfile(p.file); err != nil {
		return errors.Join(err, p.file.Close())
	}
	return nil
}
