package buffertest

import "forebay/buffer"

// Standing is the engine's.
func (m *Mem) Standing(drain string, offset uint64) (buffer.DrainStatus, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, ok := m.drains[drain]
	if !ok {
		return buffer.DrainStatus{}, false
	}
	p := d.place(offset)
	if p == nil || p.state.Final() {
		return buffer.DrainStatus{}, false
	}
	return d.status(*p, offset), true
}

// Head is the engine's.
func (m *Mem) Head(drain string) (buffer.Ref, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, ok := m.drains[drain]
	if !ok || d.oldest().IsZero() {
		return buffer.Ref{}, false
	}
	return buffer.Ref{Stream: d.stream.Name, Offset: d.start + uint64(d.low)}, true
}

// Behind is the engine's.
func (m *Mem) Behind(drain string, offset uint64) (first uint64, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, known := m.drains[drain]
	if !known {
		return 0, false
	}
	if p := d.place(offset); p == nil || p.state.Final() {
		return 0, false
	}
	l := d.lines[d.key(offset)]
	if l == nil || !l.held || l.holder == offset {
		return 0, false
	}
	return l.holder, true
}

// Backlog is the engine's.
func (m *Mem) Backlog(drain string, n int) []buffer.Waiting {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, ok := m.drains[drain]
	if !ok || d.oldest().IsZero() {
		return nil
	}
	var list []buffer.Waiting
	for _, offset := range buffer.Spread(d.start+uint64(d.low), d.start+uint64(len(d.places)), n) {
		if !d.place(offset).state.Final() {
			list = append(list, buffer.Waiting{Ahead: d.ahead(offset), AcceptedAt: d.stream.messages[offset].at})
		}
	}
	return list
}
