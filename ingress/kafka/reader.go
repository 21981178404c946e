package kafka

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"forebay/buffer"
	"forebay/policies"
)

const (
	// fetchMax is the bytes of one answer of a broker, about: so few that what they inflate to
	// is still near the processor when it is stored.
	fetchMax = 4 << 20
	// inflatedMax bounds what a batch of records holds, in bytes: producers make them of
	// 1 MiB at most, unless they are told otherwise.
	inflatedMax = 64 << 20

	sessionTimeout = 20 * time.Second
	requestTimeout = 5 * time.Second // of what a source asks a cluster, all attempts
	lastCommit     = time.Second     // of a session
	firstRetry     = time.Second
	lastRetry      = time.Minute
)

// reader is one source at work: one goroutine takes records from the client, some append
// them, another one watches the cluster. A client's callbacks run on its own.
type reader struct {
	source policies.Source
	make   maker
	cfg    Config
	buf    Buffer
	log    *slog.Logger
	counts *counts
	every  time.Duration // between two looks at the cluster
	retry  time.Duration // how long a session with a partition that fails goes on; it doubles

	// storing is held for reading while records are being stored, and for writing while
	// partitions come and go: so what is stored belongs to the group's session, and a place
	// that is read is the last.
	storing sync.RWMutex

	mu          sync.Mutex // guards all below
	parts       map[string]*assigned
	connected   bool
	paused      Reason
	troubles    map[string]string // by place
	said        map[string]time.Time
	lastError   string
	lastErrorAt time.Time
}

// assigned is a partition that the group gave the source.
type assigned struct {
	partition
	place
	pending []*kgo.Record // that are read and not stored; the first is at or behind next
	want    int64         // the first offset that is not in pending; what is before it came already
	end     int64         // the offset after the last record; -1: not known yet
	// produced is the offset up to which refused records are in their topic.
	produced int64
	unread   *unread  // what lies behind pending; nil: what is to be fetched
	bytes    int64    // of what is pending, about
	stopped  *refusal // of the record at next; nil: it is read on
	storing  bool     // what is pending is in a batch: there is one at a time, or a refused one would leave a hole
}

// unread is a batch of records that is too large to be inflated.
type unread struct {
	first *kgo.Record // where it is; it holds nothing
	next  int64       // the offset behind it
	why   *refusal
}

// start runs the reader until ctx is done or end is called, which waits for it.
func (r *reader) start(ctx context.Context) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.run(ctx)
	}()
	return func() {
		cancel()
		<-ended
	}
}

// errAgain ends a session that is to be followed by another one at once.
var errAgain = errors.New("begin again")

// run has one session with the cluster after the other.
func (r *reader) run(ctx context.Context) {
	for ctx.Err() == nil {
		began := time.Now()
		err := r.session(ctx)
		r.forget()
		if r.retry = min(2*r.retry, lastRetry); time.Since(began) > 2*lastRetry {
			r.retry = firstRetry
		}
		switch {
		case ctx.Err() != nil:
		case errors.Is(err, errAgain):
			sleep(ctx, firstRetry) // other partitions wait meanwhile
		default:
			r.fail("client", err.Error())
			sleep(ctx, r.retry)
		}
	}
}

// forget drops what belongs to a session.
func (r *reader) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.parts)
	r.connected, r.paused = false, ""
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// session reads as one member of the group, until ctx is done or something asks for
// another session.
func (r *reader) session(ctx context.Context) error {
	member, err := r.member(ctx)
	if err != nil {
		return err
	}
	s := newSession(r)
	ctx, s.end = context.WithCancelCause(ctx)
	defer s.end(nil)
	if s.client, err = s.newClient(member); err != nil {
		return err
	}
	s.admin = kadm.NewClient(s.client)
	close(s.made)
	r.well("client")
	var others sync.WaitGroup
	others.Go(func() { s.watch(ctx) })
	others.Go(func() { s.store(ctx) })
	for ctx.Err() == nil {
		s.absorb(s.client.PollFetches(ctx))
		s.client.AllowRebalance()
		s.awaitRoom(ctx)
	}
	others.Wait()
	last, cancel := context.WithTimeout(context.Background(), lastCommit)
	s.commit(last, r.places())
	cancel()
	s.leaving.Store(true)
	s.client.CloseAllowingRebalance()
	return context.Cause(ctx)
}

// session is one client's time. Its callbacks wait until it is made.
type session struct {
	*reader
	client  *kgo.Client
	admin   *kadm.Client
	made    chan struct{} // closed when client and admin are there
	came    chan struct{} // a token for each storer that may find something
	room    chan struct{} // a token when less is pending, or nothing is waited for any more
	end     context.CancelCauseFunc
	dials   dials
	pool    *pool
	leaving atomic.Bool // what was stored is told the group
	again   time.Time   // when another session is needed, as a partition is not fetched any more; zero: it is not. Guarded by mu
}

func newSession(r *reader) *session {
	return &session{reader: r, made: make(chan struct{}), came: make(chan struct{}, storers), room: make(chan struct{}, 1), pool: newPool()}
}

func (s *session) newClient(member string) (*kgo.Client, error) {
	k := s.source.Kafka
	opts, err := s.cfg.Connect(k.KafkaConnection)
	if err != nil {
		return nil, err
	}
	opts = append(opts,
		kgo.WithHooks(&s.dials, s.pool, s), kgo.WithPools(s.pool),
		kgo.ConsumeTopics(k.Topics...), kgo.ConsumerGroup(k.Group), kgo.InstanceID(member),
		kgo.SessionTimeout(sessionTimeout), kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(),
		kgo.AdjustFetchOffsetsFn(s.assign), kgo.OnPartitionsRevoked(s.revoked), kgo.OnPartitionsLost(s.lost),
		// Where to start is always said; a place that is none is looked at in the next session.
		kgo.ConsumeResetOffset(kgo.NoResetOffset()), kgo.ConsumeStartOffset(kgo.NewOffset().AtEnd()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(), // those move the place on
		kgo.FetchMaxBytes(fetchMax), kgo.FetchMaxPartitionBytes(fetchMax/4), kgo.MaxConcurrentFetches(3),
		kgo.MaxDecompressBatchBytes(inflatedMax),
		kgo.RequiredAcks(kgo.AllISRAcks()), kgo.ProducerBatchMaxBytes(refusedMax), kgo.UnknownTopicRetries(0),
	)
	return kgo.NewClient(opts...)
}

// member is who the source is in its group: the same after a restart, so that the group
// gives it its partitions at once, instead of when the last session has timed out.
func (r *reader) member(ctx context.Context) (string, error) {
	marks, err := r.buf.Bookmarks(ctx, r.source.Name)
	if err != nil {
		return "", err
	}
	for _, m := range marks {
		if m.Part == memberPart {
			return m.At, nil
		}
	}
	id := "forebay-" + r.source.Name + "-" + rand.Text()
	_, err = r.buf.AppendFrom(ctx, r.source.Stream, time.Now(), nil, r.source.Name, []buffer.Bookmark{{Part: memberPart, At: id}})
	return id, err
}

// leave tells the group that the source will not come back, so that others get its
// partitions at once. Where that fails they get them when its session times out.
func (r *reader) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	opts, err := r.cfg.Connect(r.source.Kafka.KafkaConnection)
	if err != nil {
		return
	}
	member, err := r.member(ctx)
	if err != nil {
		return
	}
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return
	}
	defer client.Close()
	_, err = kadm.NewClient(client).LeaveGroup(ctx, kadm.LeaveGroup(r.source.Kafka.Group).Reason("the source is gone").InstanceIDs(member))
	r.log.Debug("left the group", "group", r.source.Kafka.Group, "err", err)
}

// OnGroupManageError implements [kgo.HookGroupManageError].
func (s *session) OnGroupManageError(err error) {
	if !errors.Is(err, context.Canceled) && !errors.Is(err, kgo.ErrClientClosed) {
		s.fail("group "+s.source.Kafka.Group, s.dials.why(err))
	}
}

// dials remembers how the last connection failed: franz-go tries on by itself, and says no
// more than that its patience ended.
type dials struct {
	mu   sync.Mutex
	last error
}

// OnBrokerConnect implements [kgo.HookBrokerConnect].
func (d *dials) OnBrokerConnect(_ kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if answer := new(kerr.Error); errors.As(d.last, &answer) && errors.Is(err, io.EOF) {
		return // a broker that has said no hangs up
	}
	d.last = err
}

// why is the reason of an error, as far as it is known.
func (d *dials) why(err error) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.last != nil {
		err = d.last
	}
	if errors.Is(err, io.EOF) {
		return err.Error() + " (the broker hung up: is TLS or SASL missing, or a password wrong?)"
	}
	return err.Error()
}
