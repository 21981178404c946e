package buffertest

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"time"

	"forebay/buffer"
)

// idCipher makes ids of places as an engine does: one AES block over stream
// number, offset and zeros, by which a forged id is known.
type idCipher struct{ block cipher.Block }

// newIDCipher takes a fixed key, so that a test sees the same ids every time.
func newIDCipher() idCipher {
	block, err := aes.NewCipher([]byte("buffertest.Mem's"))
	if err != nil {
		panic(err) // a key of another length
	}
	return idCipher{block}
}

func (c idCipher) seal(stream int, offset uint64) string {
	var b [aes.BlockSize]byte
	binary.BigEndian.PutUint64(b[2:10], offset) // its highest byte is overwritten
	b[0], b[1], b[2] = byte(stream>>16), byte(stream>>8), byte(stream)
	c.block.Encrypt(b[:], b[:])
	return idEncoding().EncodeToString(b[:])
}

func (c idCipher) open(id string) (stream int, offset uint64, ok bool) {
	raw, err := idEncoding().DecodeString(id)
	// The last character carries two bits too many: only one spelling is ours.
	if err != nil || len(raw) != aes.BlockSize || idEncoding().EncodeToString(raw) != id {
		return 0, 0, false
	}
	c.block.Decrypt(raw, raw)
	for _, zero := range raw[10:] {
		if zero != 0 {
			return 0, 0, false
		}
	}
	stream = int(raw[0])<<16 | int(raw[1])<<8 | int(raw[2])
	raw[2] = 0
	return stream, binary.BigEndian.Uint64(raw[2:10]), true
}

func idEncoding() *base32.Encoding {
	return base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)
}

// ID implements buffer.Receipts. It is empty for a stream that is not known.
func (m *Mem) ID(ref buffer.Ref) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.stored(ref.Stream)
	if s == nil {
		return ""
	}
	return m.ids.seal(s.number, ref.Offset)
}

// Ref implements buffer.Receipts.
func (m *Mem) Ref(id string) (buffer.Ref, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	number, offset, ok := m.ids.open(id)
	if !ok || number >= len(m.streams) || offset >= uint64(len(m.streams[number].messages)) {
		return buffer.Ref{}, fmt.Errorf("read an id: %w", buffer.ErrNoMessage)
	}
	return buffer.Ref{Stream: m.streams[number].Name, Offset: offset}, nil
}

// Owner implements buffer.Receipts.
func (m *Mem) Owner(ref buffer.Ref) (buffer.Owner, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.stored(ref.Stream)
	if s == nil || ref.Offset >= uint64(len(s.messages)) {
		return 0, fmt.Errorf("whose is %s/%d: %w", ref.Stream, ref.Offset, buffer.ErrNoMessage)
	}
	return s.messages[ref.Offset].owner, nil
}

// Find implements buffer.Receipts. It counts what is ahead one by one.
func (m *Mem) Find(ref buffer.Ref, now time.Time) (buffer.Status, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, err := m.find(ref, now)
	if err != nil {
		return buffer.Status{}, fmt.Errorf("find %s/%d: %w", ref.Stream, ref.Offset, err)
	}
	status := buffer.Status{Ref: ref, AcceptedAt: s.messages[ref.Offset].at}
	for _, d := range s.drains {
		if p := d.place(ref.Offset); p != nil {
			status.Drains = append(status.Drains, d.status(*p, ref.Offset))
		}
	}
	if msg := s.messages[ref.Offset]; !status.State().Final() {
		status.Deadline = msg.Deadline
		for i := range status.Drains {
			if x := &status.Drains[i]; x.State == buffer.Queued && msg.DeliverAfter.After(now) {
				x.State, x.Due = buffer.Scheduled, msg.DeliverAfter
			}
		}
	}
	return status, nil
}

// find returns the stream of a message that was stored and is not gone.
func (m *Mem) find(ref buffer.Ref, now time.Time) (*memStream, error) {
	s := m.stored(ref.Stream)
	if s == nil || ref.Offset >= uint64(len(s.messages)) {
		return nil, buffer.ErrNoMessage
	}
	if s.messages[ref.Offset].unfinished > 0 {
		return s, nil
	}
	last := s.messages[ref.Offset].at
	for _, d := range s.drains {
		if p := d.place(ref.Offset); p != nil && p.at.After(last) {
			last = p.at
		}
	}
	if now.After(last.Add(s.KeepDelivered)) {
		return nil, buffer.ErrGone
	}
	return s, nil
}

func (d *memDrain) status(p place, offset uint64) buffer.DrainStatus {
	status := buffer.DrainStatus{
		Drain:    d.name,
		State:    p.state,
		Attempts: p.tries.Attempts,
		Status:   p.status,
		Error:    p.err,
		Reason:   p.reason,
		At:       p.at,
		Answer:   p.answer,
	}
	if p.state == buffer.Scheduled {
		status.Due = p.due
	}
	if p.state == buffer.Scheduled || p.state == buffer.Queued {
		status.Ahead = d.ahead(offset)
	}
	return status
}

// ahead counts the waiting messages with a smaller offset.
func (d *memDrain) ahead(offset uint64) uint64 {
	var n uint64
	places := d.places[d.low : offset-d.start] // the message itself is unfinished
	for i := range places {
		if places[i].waits() {
			n++
		}
	}
	return n
}

// Cancel implements buffer.Receipts.
func (m *Mem) Cancel(ctx context.Context, ref buffer.Ref, now time.Time) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("cancel %s/%d: %w", ref.Stream, ref.Offset, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s, err := m.find(ref, now)
	if err == nil {
		err = m.cancel(s, ref.Offset, now)
	}
	if err != nil {
		return fmt.Errorf("cancel %s/%d: %w", ref.Stream, ref.Offset, err)
	}
	return nil
}

func (m *Mem) cancel(s *memStream, offset uint64, now time.Time) error {
	var waiting []*memDrain
	why := buffer.ErrFinal
	for _, d := range s.drains {
		p := d.place(offset)
		switch {
		case p == nil || p.state.Final():
		case p.state == buffer.Delivering:
			why = buffer.ErrDelivering
		default:
			waiting = append(waiting, d)
		}
	}
	if len(waiting) == 0 {
		return why
	}
	for _, d := range waiting {
		m.finish(d, d.place(offset), offset, buffer.Cancelled, now)
	}
	return nil
}

// watch is one caller that waits for a message to change.
type watch struct{ changed chan struct{} }

// Watch implements buffer.Receipts. stop may be called more than once.
func (m *Mem) Watch(ref buffer.Ref) (<-chan struct{}, func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := &watch{make(chan struct{})}
	if m.watches[ref] == nil {
		m.watches[ref] = make(map[*watch]struct{})
	}
	m.watches[ref][w] = struct{}{}
	return w.changed, func() { m.unwatch(ref, w) }
}

func (m *Mem) unwatch(ref buffer.Ref, w *watch) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.watches[ref], w)
	if len(m.watches[ref]) == 0 {
		delete(m.watches, ref)
	}
}

// changed tells everyone who watches a message.
func (m *Mem) changed(ref buffer.Ref) {
	for w := range m.watches[ref] {
		close(w.changed)
	}
	delete(m.watches, ref)
}
