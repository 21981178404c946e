package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

const natsArg = "serve-nats"

func startNATS(dir string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return start(exec.Command(self, natsArg, dir))
}

// serveNATS is the peer: JetStream with a file store that syncs before it
// acknowledges, as Forebay does.
func serveNATS(dir string) error {
	srv, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true,
		JetStream: true, StoreDir: dir, SyncInterval: time.Minute, SyncAlways: true,
	})
	if err != nil {
		return err
	}
	srv.Start()
	if !srv.ReadyForConnections(10 * time.Second) {
		return errors.New("the NATS server is not ready after 10 s")
	}
	nc, err := nats.Connect(srv.ClientURL())
	if err != nil {
		return err
	}
	js, err := nc.JetStream()
	if err != nil {
		return err
	}
	if _, err := js.AddStream(&nats.StreamConfig{Name: "orders", Subjects: []string{"orders"}, Storage: nats.FileStorage}); err != nil {
		return err
	}
	nc.Close()
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	fmt.Fprintf(os.Stderr, "msg=ready public=%s\n", srv.Addr())
	<-term
	srv.Shutdown()
	srv.WaitForShutdown()
	return nil
}

// natsClient publishes one message at a time and waits for its acknowledgement.
type natsClient struct {
	conn net.Conn
	r    *bufio.Reader
	head []byte // up to the length of the message
	out  []byte
}

func natsTarget(addr string) target { return target{addr, dialNATS} }

// dialNATS speaks as much of the protocol as publishing takes: a client library
// would weigh on the two cores more than the HTTP client does.
func dialNATS(ctx context.Context, addr string, id int) (client, error) {
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &natsClient{conn: nc, r: bufio.NewReaderSize(nc, 4096)}
	if _, err := c.r.ReadSlice('\n'); err != nil { // INFO
		return nil, err
	}
	inbox := "inbox." + strconv.Itoa(id)
	if _, err := fmt.Fprintf(nc, "CONNECT {\"verbose\":false,\"pedantic\":false}\r\nSUB %s 1\r\n", inbox); err != nil {
		return nil, err
	}
	c.head = []byte("PUB orders " + inbox + " ")
	return c, nil
}

func (c *natsClient) close() error { return c.conn.Close() }

func (c *natsClient) deadline(t time.Time) error { return c.conn.SetDeadline(t) }

func (c *natsClient) send(body []byte) error {
	c.out = strconv.AppendInt(append(c.out[:0], c.head...), int64(len(body)), 10)
	c.out = append(append(append(c.out, "\r\n"...), body...), "\r\n"...)
	if _, err := c.conn.Write(c.out); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return fmt.Errorf("read the acknowledgement: %w", err)
		}
		switch {
		case bytes.HasPrefix(line, []byte("PING")):
			if _, err := io.WriteString(c.conn, "PONG\r\n"); err != nil {
				return err
			}
		case bytes.HasPrefix(line, []byte("MSG ")):
			return c.acknowledged(line)
		default:
			return fmt.Errorf("answered %q", bytes.TrimSpace(line))
		}
	}
}

// acknowledged reads what a MSG line announces.
func (c *natsClient) acknowledged(line []byte) error {
	fields := bytes.Fields(line)
	n, err := strconv.Atoi(string(fields[len(fields)-1]))
	if err != nil {
		return fmt.Errorf("read the length in %q: %w", line, err)
	}
	ack := make([]byte, n+2)
	if _, err := io.ReadFull(c.r, ack); err != nil {
		return err
	}
	if !bytes.Contains(ack, []byte(`"seq":`)) {
		return fmt.Errorf("answered %q, want an acknowledgement", ack)
	}
	return nil
}
