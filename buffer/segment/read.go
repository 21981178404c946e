package segment

import (
	"errors"
	"fmt"
	"math"
	"runtime/debug"

	"github.com/dgraph-io/badger/v4"
)

// Read returns a copy of one block as it was written, or nil where it is not
// there any more, which the caller has to treat as damage. It may read the disk.
// An I/O error behind a mapping is an error, not the end of the process. What
// Badger does not find in a sealed segment is looked for in its log.
func (s *Segment) Read(seq uint64) (data []byte, err error) {
	db, sealed, err := s.hold()
	if err != nil {
		s.fault.log.Error("badger cannot open a segment; its log is read instead", "err", err)
		return s.readLog(seq)
	}
	if db != nil {
		data, err = s.get(seq)
		s.mu.RUnlock()
	}
	if errors.Is(err, errFault) {
		s.abandon()
		sealed = true
	}
	if data == nil && (sealed || db == nil) {
		return s.readLog(seq)
	}
	return data, err
}

// hold returns Badger with mu held for reading, or nil with mu free where it is
// not used any more.
func (s *Segment) hold() (db *badger.DB, sealed bool, err error) {
	for {
		s.mu.RLock()
		if s.db != nil {
			return s.db, s.sealed, nil
		}
		gone := s.gone
		s.mu.RUnlock()
		if gone {
			return nil, true, nil
		}
		if err := s.open(); err != nil {
			return nil, true, err
		}
	}
}

// errFault is a page of a mapping that the disk did not give.
var errFault = errors.New("fault in a mapping")

// abandon gives Badger up after a fault: it holds a lock that its Close would
// wait for. What it has mapped stays until the process ends.
func (s *Segment) abandon() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.db, s.gone = nil, true
}

// get reads a block through Badger. The caller holds mu for reading.
func (s *Segment) get(seq uint64) (data []byte, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			data, err = nil, fmt.Errorf("read block %d of %s: %w: %v", seq, s.Dir, errFault, p)
		}
	}()
	txn := s.db.NewTransactionAt(math.MaxUint64, false)
	defer txn.Discard()
	item, err := txn.Get(key(seq))
	if errors.Is(err, badger.ErrKeyNotFound) {
		return nil, nil
	}
	if err == nil {
		data, err = item.ValueCopy(nil)
	}
	if err != nil {
		return nil, fmt.Errorf("read block %d of %s: %w", seq, s.Dir, err)
	}
	return data, nil
}

func (s *Segment) open() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.db != nil || s.gone {
		return nil
	}
	if !s.sealed {
		return fmt.Errorf("segment %s is closed", s.Dir)
	}
	db, err := badger.OpenManaged(s.options(true))
	if err != nil {
		return fmt.Errorf("open segment %s: %w", s.Dir, err)
	}
	s.db = db
	return nil
}
