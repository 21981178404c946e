package buffer

import (
	"fmt"
	"slices"
)

// Configure makes streams and their drains known; durable when it returns. A
// new drain starts at the end of its stream, or, if the stream never had one,
// at its first message. What is absent is dropped; but while something of it is
// unfinished or dead it stays and is listed as orphaned.
func (e *Engine) Configure(streams []Stream) error {
	e.mu.Lock()
	if err := e.checkMoves(streams); err != nil {
		e.mu.Unlock()
		return err
	}
	wanted := map[string]bool{}
	for _, cfg := range streams {
		wanted[cfg.Name] = true
		e.setStream(cfg)
	}
	for _, s := range e.sortedStreams() {
		if !wanted[s.Name] {
			e.retireStream(s)
		}
	}
	for _, cfg := range streams {
		e.setDrains(e.streams[cfg.Name])
	}
	g, err := e.join()
	names := e.names()
	e.mu.Unlock()
	if err != nil {
		return err
	}
	<-g.done
	if g.changes != nil {
		return g.changes
	}
	return e.writeNames(names)
}

// checkMoves refuses to take a drain from a stream of which it still has something.
func (e *Engine) checkMoves(streams []Stream) error {
	for _, cfg := range streams {
		for _, name := range cfg.Drains {
			if d := e.drains[name]; d != nil && d.stream.Name != cfg.Name && !d.empty() {
				return fmt.Errorf("drain %s: it still has messages or dead letters of stream %s", name, d.stream.Name)
			}
		}
	}
	return nil
}

// setStream makes a stream what cfg says, but for drains that are new to it.
func (e *Engine) setStream(cfg Stream) {
	if cfg.MaxMessageBytes == 0 {
		cfg.MaxMessageBytes = defaultMaxMessageBytes
	}
	if cfg.KeepDelivered == 0 {
		cfg.KeepDelivered = defaultKeepDelivered
	}
	if cfg.KeepResultsBytes == 0 {
		cfg.KeepResultsBytes = defaultKeepResultsBytes
	}
	if cfg.DeadKeep == 0 {
		cfg.DeadKeep = defaultDeadKeep
	}
	if cfg.DeadMaxBytes == 0 {
		cfg.DeadMaxBytes = defaultDeadMaxBytes
	}
	s := e.streams[cfg.Name]
	if s == nil {
		e.lastNum++
		s = e.newStream(e.lastNum, cfg.Name)
		e.delta.stream(s)
	}
	s.Stream, s.orphaned = cfg, false
	for _, d := range slices.Clone(s.drains) {
		if d.orphaned = !slices.Contains(cfg.Drains, d.name); d.orphaned {
			e.retireDrain(d)
		}
	}
}

func (e *Engine) setDrains(s *stream) {
	for _, name := range s.Drains {
		if e.drains[name] == nil {
			e.addDrain(s, name)
		}
		e.drains[name].setKeyless(slices.Contains(s.Keyless, name))
	}
	// Receipts list drains in the order of the policy, orphans last.
	slices.SortStableFunc(s.drains, func(a, b *drain) int { return place(s.Drains, a.name) - place(s.Drains, b.name) })
}

func place(names []string, name string) int {
	if i := slices.Index(names, name); i >= 0 {
		return i
	}
	return len(names)
}

func (e *Engine) addDrain(s *stream, name string) {
	from := s.next
	switch {
	case !s.read && len(s.blocks) > 0:
		from = s.blocks[0].first // their owed counts already expect one drain
	case slices.Contains(s.FromOldest, name):
		from = e.oweStored(s)
	}
	s.read = true
	s.live.void()
	e.lastNum++
	e.delta.stream(s)
	e.delta.drain(e.newDrain(s, e.lastNum, name, from))
	if from < s.next {
		e.buryHoles(s)
	}
}

// oweStored counts one more drain for what is stored without a gap up to the
// end of the stream, and returns where that begins. What is being rewritten is such a
// gap: its copy may leave messages out. The caller holds mu.
func (e *Engine) oweStored(s *stream) (from uint64) {
	from = s.next
	for _, b := range slices.Backward(s.blocks) {
		if b.end() != from || b.kept < b.count || b.seg.phase >= dropping || b.seg.rewriting {
			break
		}
		from = b.first
		if !b.pinned() {
			b.seg.live++
		}
		if b.owed == 0 {
			s.bytes += int64(b.size)
		}
		b.owed += b.count
	}
	return from
}

func (e *Engine) retireStream(s *stream) {
	s.orphaned = true
	for _, d := range slices.Clone(s.drains) {
		d.orphaned = true
		e.retireDrain(d)
	}
	if len(s.drains) > 0 || s.waiting > 0 || (!s.read && len(s.blocks) > 0) {
		return
	}
	e.delta.op(opDropStream, uint64(s.num))
	e.forgetStream(s)
}

func (e *Engine) retireDrain(d *drain) {
	if !d.empty() {
		return
	}
	e.delta.op(opDropDrain, uint64(d.num))
	e.forgetDrain(d)
}

func (e *Engine) newStream(num uint32, name string) *stream {
	s := &stream{Stream: Stream{Name: name, MaxMessageBytes: defaultMaxMessageBytes, KeepDelivered: defaultKeepDelivered, DeadKeep: defaultDeadKeep, DeadMaxBytes: defaultDeadMaxBytes, KeepResultsBytes: defaultKeepResultsBytes}, num: num, orphaned: true, live: liveKeys{hash: e.keyHash}, timed: map[uint64]struct{}{}}
	e.streams[name], e.byNum[num] = s, s
	s.appends = e.metrics.append.WithLabelValues(name)
	e.lastNum = max(e.lastNum, num)
	return s
}

func (e *Engine) newDrain(s *stream, num uint32, name string, from uint64) *drain {
	d := newDrain(name, num, s, from)
	s.drains = append(s.drains, d)
	e.drains[name], e.drainNums[num] = d, d
	e.lastNum = max(e.lastNum, num)
	return d
}

func (e *Engine) forgetStream(s *stream) {
	delete(e.streams, s.Name)
	delete(e.byNum, s.num)
	e.metrics.append.DeleteLabelValues(s.Name)
}

func (e *Engine) forgetDrain(d *drain) {
	delete(e.drains, d.name)
	delete(e.drainNums, d.num)
	// A new slice: callers range over the old one while their drains go.
	d.stream.drains = slices.DeleteFunc(slices.Clone(d.stream.drains), func(x *drain) bool { return x == d })
}

func (e *Engine) sortedStreams() []*stream {
	all := make([]*stream, 0, len(e.streams))
	for _, s := range e.streams {
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b *stream) int { return int(a.num) - int(b.num) })
	return all
}
