package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// What the kernel asks of a file over /dev/fuse, from linux/fuse.h.
const (
	fuseForget    = 2
	fuseGetattr   = 3
	fuseSetattr   = 4
	fuseOpen      = 14
	fuseRead      = 15
	fuseWrite     = 16
	fuseRelease   = 18
	fuseFsync     = 20
	fuseFlush     = 25
	fuseInit      = 26
	fuseInterrupt = 36

	fuseInHeader  = 40
	fuseWriteIn   = 40 // before what is written
	fuseOutHeader = 16
	fuseBigWrites = 1 << 5
	fuseMaxWrite  = 128 << 10
)

// sector is what the disk writes whole or not at all.
const sector = 4096

// Disk is a file with a volatile cache in front of it: what was written since
// the last flush is forgotten, sector by sector, when the power goes. It is a
// FUSE mount whose root is that one file. Its methods are for one caller, and
// those of net/rpc, so that a process of its own can serve it.
type Disk struct {
	at   string // where the file is seen
	file *os.File
	done chan struct{} // closed once nobody asks any more

	mu   sync.Mutex
	was  map[int64][]byte // guarded by mu; sectors as they were at the last flush
	lies bool             // guarded by mu; a flush does nothing
	dead bool             // guarded by mu; nothing is read or written any more
}

// New is a disk without power that shows a file, the image, at another path. The
// image is open until the process ends.
func New(image, at string) (*Disk, error) {
	file, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(at, nil, 0o600); err != nil {
		return nil, err
	}
	d := &Disk{at: at, file: file, done: make(chan struct{})}
	close(d.done)
	return d, nil
}

// Plug begins to serve the disk, with power and an empty cache.
func (d *Disk) Plug(_ struct{}, _ *struct{}) error {
	// Without os.File, whose poller would wait for a mount that is still to come.
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("/dev/fuse: %w", err)
	}
	if err := unix.Mount("disk", d.at, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=100000,user_id=0,group_id=0", fd)); err != nil {
		_ = unix.Close(fd) // nothing was read of it
		return fmt.Errorf("mount a FUSE file at %s: %w", d.at, err)
	}
	d.was, d.dead, d.done = make(map[int64][]byte), false, make(chan struct{})
	go func(done chan struct{}) {
		defer close(done)
		defer func() { _ = unix.Close(fd) }() // it is gone with the mount
		d.serve(fd)
	}(d.done)
	return nil
}

// Cut takes the power away. Of what was not flushed each sector is kept or
// forgotten at random; with seed 0 all is forgotten.
func (d *Disk) Cut(seed uint64, _ *struct{}) error {
	rng := rand.New(rand.NewPCG(seed, 0))
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dead = true
	for _, s := range slices.Sorted(maps.Keys(d.was)) {
		if seed != 0 && rng.IntN(2) == 0 {
			continue
		}
		if _, err := d.file.WriteAt(d.was[s], s*sector); err != nil {
			return fmt.Errorf("forget sector %d: %w", s, err)
		}
	}
	return nil
}

// Unplug ends the serving of a disk that nobody has mounted any more. By force:
// whoever has it mounted still gets errors.
func (d *Disk) Unplug(force bool, _ *struct{}) error {
	if force {
		_ = unix.Unmount(d.at, unix.MNT_FORCE|unix.MNT_DETACH) // it is no mount without power
		<-d.done
		return nil
	}
	const patience, pause = 20 * time.Second, 5 * time.Millisecond
	err := unix.Unmount(d.at, 0) // a loop device lets go of it a moment after it was unmounted
	for n := 0; err != nil && n < int(patience/pause); n++ {
		<-time.After(pause)
		err = unix.Unmount(d.at, 0)
	}
	if err != nil {
		return fmt.Errorf("the loop device does not let go of %s: %w", d.at, err)
	}
	<-d.done
	return nil
}

// Lie makes the disk forget its flushes from now on.
func (d *Disk) Lie(_ struct{}, _ *struct{}) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lies = true
	return nil
}

// serve answers until the mount is gone.
func (d *Disk) serve(fd int) {
	buf := make([]byte, fuseMaxWrite+8192)
	for {
		n, err := unix.Read(fd, buf)
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil || n < fuseInHeader {
			return
		}
		opcode := binary.LittleEndian.Uint32(buf[4:])
		if opcode == fuseForget || opcode == fuseInterrupt {
			continue // no answer is due
		}
		body, errno := d.answer(opcode, buf[fuseInHeader:n])
		out := binary.LittleEndian.AppendUint32(nil, uint32(fuseOutHeader+len(body)))
		out = binary.LittleEndian.AppendUint32(out, uint32(-int32(errno)))
		out = append(append(out, buf[8:16]...), body...)
		_, _ = unix.Write(fd, out) // fails where the asker was interrupted
	}
}

func (d *Disk) answer(opcode uint32, in []byte) (out []byte, errno unix.Errno) {
	le := binary.LittleEndian
	switch opcode {
	case fuseInit:
		out = make([]byte, 64)
		le.PutUint32(out, 7)
		le.PutUint32(out[4:], 31)
		le.PutUint32(out[12:], fuseBigWrites)
		le.PutUint32(out[20:], fuseMaxWrite)
		return out, 0
	case fuseGetattr, fuseSetattr:
		return d.attributes()
	case fuseOpen:
		return make([]byte, 16), 0
	case fuseRelease, fuseFlush:
		return nil, 0
	case fuseRead, fuseWrite, fuseFsync:
	default:
		return nil, unix.ENOSYS
	}

	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.dead:
		return nil, unix.EIO
	case opcode == fuseFsync:
		if !d.lies {
			clear(d.was)
		}
		return nil, 0
	}
	off, size := int64(le.Uint64(in[8:])), int(le.Uint32(in[16:]))
	if opcode == fuseRead {
		out = make([]byte, size)
		n, err := d.file.ReadAt(out, off)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, unix.EIO
		}
		return out[:n], 0
	}
	if err := d.write(in[fuseWriteIn:][:size], off); err != nil {
		return nil, unix.EIO
	}
	return le.AppendUint32(make([]byte, 0, 8), uint32(size))[:8], 0
}

// write keeps what it overwrites. The caller holds mu.
func (d *Disk) write(p []byte, off int64) error {
	for s := off / sector; s*sector < off+int64(len(p)); s++ {
		if d.was[s] != nil {
			continue
		}
		old := make([]byte, sector)
		if _, err := d.file.ReadAt(old, s*sector); err != nil {
			return err
		}
		d.was[s] = old
	}
	_, err := d.file.WriteAt(p, off)
	return err
}

// attributes are those of a file that only its size is known of.
func (d *Disk) attributes() ([]byte, unix.Errno) {
	info, err := d.file.Stat()
	if err != nil {
		return nil, unix.EIO
	}
	le := binary.LittleEndian
	out := make([]byte, 104)
	le.PutUint64(out, 3600) // seconds that this holds
	attr := out[16:]
	le.PutUint64(attr, 1)
	le.PutUint64(attr[8:], uint64(info.Size()))
	le.PutUint64(attr[16:], uint64(info.Size()/512))
	le.PutUint32(attr[60:], unix.S_IFREG|0o600)
	le.PutUint32(attr[64:], 1)
	le.PutUint32(attr[80:], sector)
	return out, 0
}
