package buffer_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/rpc"
	"net/rpc/jsonrpc"
	"os"
	"os/exec"
	"testing"

	"forebay/buffer"
	"forebay/buffer/buffertest/disk"
)

// What this test binary is when it was started by itself; the rest is in os.Args.
const (
	partVariable = "FOREBAY_TEST_PART"
	partDisk     = "disk"   // image, path: serves it as a disk with a cache
	partEngine   = "engine" // directory: opens a buffer there and does as it is told
)

func TestMain(m *testing.M) {
	var err error
	switch part := os.Getenv(partVariable); part {
	case partDisk:
		err = serveDisk(os.Args[1], os.Args[2])
	case partEngine:
		err = serveEngine(os.Args[1])
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// pipes is stdin and stdout, of this process or towards another.
type pipes struct {
	io.ReadCloser
	io.Writer
}

// serve answers calls until the process that started this one is gone.
func serve(name string, part any) error {
	s := rpc.NewServer()
	if err := s.RegisterName(name, part); err != nil {
		return err
	}
	s.ServeCodec(jsonrpc.NewServerCodec(pipes{os.Stdin, os.Stdout}))
	return nil
}

func serveDisk(image, at string) error {
	d, err := disk.New(image, at)
	if err != nil {
		return err
	}
	err = serve("Disk", d)
	return errors.Join(err, d.Unplug(true, nil))
}

func serveEngine(dir string) error {
	found, err := buffer.Verify(context.Background(), dir, nil, nil)
	if err == nil && len(found.Damage)+len(found.Lost) > 0 {
		err = fmt.Errorf("verify %s: damaged %+v, lost %+v", dir, found.Damage, found.Lost)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	e, err := buffer.Open(context.Background(), buffer.Config{Dir: dir, SegmentBytes: mib})
	if err != nil {
		return err
	}
	return serve("Engine", &engineServer{e})
}

// A process is one part of a test.
type process struct {
	cmd *exec.Cmd
	rpc *rpc.Client
}

func startPart(t testing.TB, part string, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(os.Args[0], args...)}
	p.cmd.Env = append(os.Environ(), partVariable+"="+part)
	p.cmd.Stderr = os.Stderr
	in, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.rpc = jsonrpc.NewClient(pipes{out, in})
	t.Cleanup(p.kill)
	return p
}

// kill ends the process, if it has not ended, and all calls.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
	_ = p.rpc.Close() // it is closed where the process has ended
}

// remoteDisk is a disk that another process serves.
type remoteDisk struct{ *process }

func (d remoteDisk) Plug(in struct{}, out *struct{}) error { return d.rpc.Call("Disk.Plug", in, out) }

func (d remoteDisk) Cut(seed uint64, out *struct{}) error { return d.rpc.Call("Disk.Cut", seed, out) }

func (d remoteDisk) Unplug(force bool, out *struct{}) error {
	return d.rpc.Call("Disk.Unplug", force, out)
}
func (d remoteDisk) Lie(in struct{}, out *struct{}) error { return d.rpc.Call("Disk.Lie", in, out) }
