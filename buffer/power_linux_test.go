package buffer_test

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"forebay/buffer/buffertest"
	"forebay/buffer/buffertest/disk"
)

const (
	modelCutsVariable = "FOREBAY_MODEL_CUTS"
	modelSeedVariable = "FOREBAY_TORTURE_SEED"
	modelLiesVariable = "FOREBAY_MODEL_LIES" // the disk forgets what it flushed, too
)

// TestPowerModel runs the model's random operations against an engine in another
// process, on an ext4 on a disk with a volatile cache, and cuts the power at random
// points, mostly amid calls. Choices repeat with the seed, as far as the machine lets
// things happen at the same time.
func TestPowerModel(t *testing.T) {
	if os.Getenv(modelCutsVariable) == "" {
		t.Skip("a power cut needs root, FUSE, a loop device and mkfs.ext4: make torture-model")
	}
	disk.Tools(t)
	cuts, err := strconv.Atoi(os.Getenv(modelCutsVariable))
	if err != nil {
		t.Fatal(err)
	}
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv(modelSeedVariable); text != "" {
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	fmt.Printf("power cuts under the model: %s=%d\n", modelSeedVariable, seed)
	for name, value := range map[string]string{
		"rapid.seed": strconv.FormatUint(seed, 10), "rapid.checks": strconv.Itoa(cuts),
		"rapid.steps": "60", "rapid.nofailfile": "true", "rapid.shrinktime": "0s",
	} {
		if err := flag.Set(name, value); err != nil {
			t.Fatal(err)
		}
	}
	m := newMachine(t, seed)
	defer func() {
		fmt.Printf("%d power cuts, %d buffers, model and engine agree: %v\n", m.cuts, m.opened, !t.Failed())
	}()
	buffertest.RunModelWhile(t, func() bool { return m.cuts < cuts }, m.subject)
}

// TestPowerModelShowsLoss: where the disk flushes nothing, the model has to see it.
func TestPowerModelShowsLoss(t *testing.T) {
	if os.Getenv(modelCutsVariable) == "" {
		t.Skip("the control of TestPowerModel: make torture-model")
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestPowerModel$", "-test.timeout=2m")
	cmd.Env = append(os.Environ(), modelCutsVariable+"=20", modelLiesVariable+"=1")
	out, err := cmd.CombinedOutput()
	exit := new(exec.ExitError)
	if !errors.As(err, &exit) || !strings.Contains(string(out), "model and engine agree: false") {
		t.Fatalf("on a disk that flushes nothing the model fails with %v, want a difference:\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "panic") {
			t.Fatalf("the control ended otherwise than by what is lost:\n%s", out)
		}
	}
}

// A machine is a disk, a file system on it and the process that uses it.
type machine struct {
	t      *testing.T
	volume *disk.Volume
	rng    *rand.Rand // which sectors a cut keeps
	lies   bool
	opened int
	cuts   int

	mu     sync.Mutex
	engine remote // guarded by mu; of the present subject
}

func newMachine(t *testing.T, seed uint64) *machine {
	m := &machine{t: t, rng: rand.New(rand.NewPCG(seed, 1)), lies: os.Getenv(modelLiesVariable) != ""}
	m.volume = disk.NewVolume(t, 256*mib, func(image, at string) (disk.Cache, error) {
		return remoteDisk{startPart(t, partDisk, image, at)}, nil
	})
	return m
}

// subject is a buffer in a directory of its own.
func (m *machine) subject(t *testing.T) buffertest.Subject {
	m.opened++
	dir := filepath.Join(m.volume.Dir, fmt.Sprintf("data-%d", m.opened))
	first := m.open(dir)
	if m.lies {
		if err := m.volume.Cache.Lie(struct{}{}, new(struct{})); err != nil {
			t.Fatal(err)
		}
	}
	return buffertest.Subject{
		Buffer:  first,
		Amid:    func() { _ = m.now().call("Rewrite", nil) }, // fails amid a crash
		Settled: func() error { return m.now().call("AwaitDurable", nil) },
		Housekeep: func(now time.Time) {
			if err := m.now().call("KeepHouse", nil, now); err != nil {
				t.Error(err)
			}
		},
		Reopen: func(crash bool) (buffertest.Engine, error) {
			if crash {
				m.cut()
			} else if err := m.now().close(); err != nil {
				return nil, err
			}
			return m.open(dir), nil
		},
		Close: func() error { return errors.Join(m.now().close(), os.RemoveAll(dir)) },
	}
}

func (m *machine) now() remote {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.engine
}

func (m *machine) open(dir string) remote {
	e := remote{startPart(m.t, partEngine, dir)}
	m.mu.Lock()
	m.engine = e
	m.mu.Unlock()
	return e
}

// cut cuts the power and gives it back.
func (m *machine) cut() {
	m.cuts++
	seed := m.rng.Uint64() | 1
	if m.lies {
		seed = 0 // all that was ever written: else the file system itself would be damaged
	}
	m.volume.Cut(seed, m.now().kill)
	m.volume.Mount()
}
