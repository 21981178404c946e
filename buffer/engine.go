package buffer

import (
	"container/list"
	"context"
	"crypto/cipher"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"forebay/buffer/block"
	"forebay/buffer/segment"

	"github.com/prometheus/client_golang/prometheus"
)

// Config is how an engine stores.
type Config struct {
	Dir          string // made if it is not there; one process at a time
	SegmentBytes int64  // unit of reclaim; 0: 512 MiB, at least 1 MiB
	MinFree      int64  // bytes of the volume that stay free; 0: 2 × SegmentBytes
	MaxBytes     int64  // bytes on disk; 0: the volume less MinFree
	// MasterKeys encrypt what is stored: the first wraps the keys that do so, others
	// may unwrap them. None: in the clear.
	MasterKeys []MasterKey
	Log        *slog.Logger
	Registerer prometheus.Registerer // nil: no metrics
}

const (
	defaultSegmentBytes = 512 << 20
	minSegmentBytes     = 1 << 20

	// A segment ends at the first of these or its bytes.
	maxSegmentMessages = 2_000_000
	maxSegmentAge      = time.Hour

	appendMemory = 64 << 20 // of messages being committed
	// sourceMemory is what sources take of it: they can wait, and callers would be refused.
	sourceMemory = appendMemory * 3 / 4
	cacheMemory  = 64 << 20 // of decoded blocks

	defaultMaxMessageBytes  = 1 << 20
	defaultKeepDelivered    = 24 * time.Hour
	defaultDeadKeep         = 14 * 24 * time.Hour
	defaultDeadMaxBytes     = 1 << 30
	defaultKeepResultsBytes = 1 << 30
)

func (c *Config) setDefaults() error {
	if c.SegmentBytes == 0 {
		c.SegmentBytes = defaultSegmentBytes
	}
	if c.SegmentBytes < minSegmentBytes {
		return fmt.Errorf("segment_bytes is %d, the least is %d (1 MiB)", c.SegmentBytes, minSegmentBytes)
	}
	if most := segment.MaxCapacity(); c.SegmentBytes > most {
		return fmt.Errorf("segment_bytes is %d, the most is %d", c.SegmentBytes, most)
	}
	if c.MinFree == 0 {
		c.MinFree = 2 * c.SegmentBytes
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}

// Engine is the durable buffer of one machine. It implements [Buffer],
// [Receipts] and [Inspector].
//
// One goroutine, the committer, writes; a second one, the janitor, seals and
// removes segments; a third copies what keeps sparse ones. Everything else happens on the callers' goroutines under
// mu, which is never held during input or output.
type Engine struct {
	cfg     Config
	log     *slog.Logger
	comp    *block.Coder
	ids     cipher.Block
	keyHash keyHash
	key     *keyFileState
	metrics *metrics
	lock    *os.File
	isNew   bool // the directory has not had a segment

	kick      chan struct{} // something waits for a commit
	crowd     crowd         // guarded by mu
	changed   chan struct{} // the first change since the last commit
	sweep     chan struct{} // work for the janitor
	sealedOne chan struct{} // it has sealed a segment
	between   chan func()   // what the committer is to do between two commits
	stop      chan struct{} // closed by Close
	failed    chan struct{} // closed by fail
	done      sync.WaitGroup

	recovery    Recovery
	snapshotSeq uint64     // of the snapshot that the start used
	rewriting   sync.Mutex // held by the one rewrite that is under way
	free        sync.Pool  // of *[]byte, for what is read of logs

	// commitBlocks is segment.Commit, and createSegment segment.Create; a test puts
	// failures here.
	commitBlocks  func(*segment.Segment, []segment.Block) error
	createSegment func(dir string, capacity int64, log *slog.Logger) (*segment.Segment, error)

	// The committer's own.
	seq     uint64 // of the newest durable block
	chain   uint32 // its checksum
	active  *segmentRef
	grown   map[*stream]bool // streams with messages since the last block of changes
	started time.Time        // of the active segment's first block
	count   int              // messages in the active segment

	stallTimer *time.Timer // runs while there is a commit

	mu           sync.Mutex // guards all below, and the states they lead to
	broken       error      // the first failure, for good
	closed       bool       // Close was called
	pending      *group     // what the next commit takes
	delta        ops        // changes that the next commit takes
	held         int64      // bytes of messages being committed
	committing   *group     // nil while the committer waits
	since        time.Time  // when that commit began
	stall        bool       // it takes so long that appends are refused
	full         error      // ErrDiskFull while no segment can be reserved
	streams      map[string]*stream
	byNum        map[uint32]*stream
	drains       map[string]*drain
	drainNums    map[uint32]*drain
	lastNum      uint32 // of streams and drains
	segments     []*segmentRef
	lastID       uint64 // of segments
	standby      *segment.Segment
	standbyID    uint64
	reserving    bool                    // the janitor is to make a standby
	records      *records                // of the active segment
	outcomeFiles []*outcomeSet           // oldest first
	answerFiles  []*answerSet            // oldest first
	onces        map[[16]byte]*onceEntry // of appends under way
	onceFiles    []*onceTable            // oldest first
	onceShelves  []onceShelf             // the same, as look-ups ask for them
	onceMoves    int                     // how often records went into another file
	cache        *list.List              // of *cachedBlock, most recently used first
	cached       int64
	loading      map[*blockRef]*loading // blocks that are being read
	readers      int                    // goroutines that read ahead
	watches      map[Ref]*watch
	bookmarks    map[string]map[string]string // by source and part
	corrupt      uint64
	looked       uint64    // the newest block at the last look for a rewrite
	copying      bool      // a backup is being written: what it may copy stays
	late         []string  // files of records that go at its end
	clock        time.Time // as a caller said it last; before the first, the latest that is stored
	heard        bool      // one said it
}

// phase is where a segment is in its life.
type phase uint8

const (
	open      phase = iota // the active one
	sealing                // written no more; the janitor is to seal it
	sealed                 // read-only
	dropping               // nothing in it is needed; waits until that is durable
	removable              // the janitor is to remove it
)

// segmentRef is a segment and what is still needed of it. The committer alone
// writes to an open one; mu guards the rest.
type segmentRef struct {
	id       uint64
	seg      *segment.Segment
	phase    phase
	live     int            // blocks that are pinned
	blocks   []segBlock     // of messages
	controls []controlBlock // until they are in its index
	first    uint64         // seqs
	last     uint64
	bytes    int64    // on disk
	records  *records // until they are files; of the active one, Engine.records

	open     openKeys   // until it is sealed
	table    *keyTable  // once it was asked for
	keysOnce sync.Mutex // held while it is opened or made
	keyed    bool       // some message has a key

	rewriting bool  // what is needed of it is being copied
	held      bool  // a backup copies it: it stays until that is done
	left      int64 // bytes that were needed at the last look for a rewrite
}

// segBlock is a block of messages and its stream.
type segBlock struct {
	stream *stream
	*blockRef
}

// Open opens or creates the buffer in cfg.Dir. It recovers what a crash left,
// which reads what was not sealed, and returns once appends can be taken. Its
// errors are one line that says what is wrong with the directory; unless
// recovery began, nothing was changed.
func Open(ctx context.Context, cfg Config) (*Engine, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	comp, err := block.NewCoder(2)
	if err != nil {
		return nil, err
	}
	e := &Engine{
		cfg: cfg, log: cfg.Log, comp: comp, metrics: newMetrics(cfg.Registerer),
		kick: make(chan struct{}, 1), changed: make(chan struct{}, 1), sweep: make(chan struct{}, 1), sealedOne: make(chan struct{}, 1), between: make(chan func()),
		stop: make(chan struct{}), failed: make(chan struct{}),
		pending: newGroup(), records: newRecords(), cache: list.New(), loading: map[*blockRef]*loading{},
		streams: map[string]*stream{}, byNum: map[uint32]*stream{},
		drains: map[string]*drain{}, drainNums: map[uint32]*drain{}, watches: map[Ref]*watch{}, bookmarks: map[string]map[string]string{}, onces: map[[16]byte]*onceEntry{}, grown: map[*stream]bool{},
		commitBlocks: (*segment.Segment).Commit, createSegment: segment.Create,
	}
	if err := e.prepareDir(); err != nil {
		e.unlock()
		return nil, err
	}
	if err := e.recover(ctx); err != nil {
		err = errors.Join(err, e.closeSegments())
		e.unlock()
		return nil, err
	}
	e.stallTimer = time.AfterFunc(stallAfter, e.stalled)
	e.done.Go(e.commitLoop)
	e.done.Go(e.janitor)
	e.done.Go(e.rewriter)
	return e, nil
}

// Recovery says what Open found.
func (e *Engine) Recovery() Recovery { return e.recovery }

// Failed is closed when a write or a sync failed. The process has to end: see Err.
func (e *Engine) Failed() <-chan struct{} { return e.failed }

// Err is why the engine stopped, or nil: the failure, if there was one, else
// ErrClosed after Close.
func (e *Engine) Err() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.stopped()
}

// stopped is Err for who holds mu.
func (e *Engine) stopped() error {
	if e.broken == nil && e.closed {
		return ErrClosed
	}
	return e.broken
}

// fail stops the engine for good. A failed sync is never tried again: the
// kernel may have dropped the pages and call the next one a success.
func (e *Engine) fail(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.broken == nil {
		e.broken = fmt.Errorf("%w: %w", ErrBroken, err)
		close(e.failed)
	}
}

// Close refuses further appends, makes durable what waits, seals the open
// segment and releases the directory.
func (e *Engine) Close() error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return nil
	}
	e.closed = true
	e.mu.Unlock()
	close(e.stop)
	e.done.Wait()
	e.mu.Lock()
	err := e.broken
	e.mu.Unlock()
	if err == nil {
		// Badger's Close tries a flush that fails for ever; the kernel lets go of
		// what a broken engine holds when the process ends.
		err = errors.Join(e.sealAll(), e.closeSegments())
	}
	e.unlock()
	return err
}

func (e *Engine) closeSegments() error {
	var errs []error
	for _, s := range e.segments {
		errs = append(errs, s.seg.Drop())
	}
	errs = append(errs, giveUp(e.standby))
	e.standby = nil
	return errors.Join(errs...)
}

// signal fills a one-slot channel; a signal that waits already says the same.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
