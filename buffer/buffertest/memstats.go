package buffertest

import (
	"context"
	"maps"
	"math"

	"forebay/buffer"
)

// Stats implements buffer.Inspector.
func (m *Mem) Stats() buffer.Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	stats := buffer.Stats{
		Free:     math.MaxInt64,
		Room:     math.MaxInt64,
		Segments: map[string]int{"open": 1, "sealed": 0},
	}
	for _, s := range m.streams {
		if s.dropped {
			continue
		}
		stats.Bytes += s.bytes
		stats.Streams = append(stats.Streams, buffer.StreamStats{
			Stream:   s.Name,
			Orphaned: s.orphaned,
			Messages: s.open,
			Bytes:    s.bytes,
			MaxBytes: s.MaxBytes,
			Accepted: uint64(len(s.messages)),
			Oldest:   s.oldestAt(),
		})
		for _, d := range s.drains {
			stats.Drains = append(stats.Drains, d.stats(m.maxParked))
		}
	}
	return stats
}

func (d *memDrain) stats(maxParked int) buffer.DrainStats {
	return buffer.DrainStats{
		Drain:      d.name,
		Stream:     d.stream.Name,
		Orphaned:   d.orphaned || d.stream.orphaned,
		Pending:    d.pending,
		InFlight:   d.inFlight,
		Scheduled:  uint64(len(d.retries)),
		Delivered:  d.delivered,
		Expired:    d.expired,
		Cancelled:  d.cancelled,
		Dead:       maps.Clone(d.dead),
		Buried:     maps.Clone(d.buried),
		Oldest:     d.oldest(),
		LastDue:    d.lastDue(),
		ParkedKeys: d.parked,
		Blocked:    d.parked >= maxParked,
	}
}

// Audit implements buffer.Inspector. It counts every message anew.
func (m *Mem) Audit(ctx context.Context) ([]buffer.Account, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var accounts []buffer.Account
	for _, s := range m.streams {
		for _, d := range s.drains {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			accounts = append(accounts, d.account())
		}
	}
	return accounts, nil
}

func (d *memDrain) account() buffer.Account {
	a := buffer.Account{
		Stream:   d.stream.Name,
		Drain:    d.name,
		Accepted: uint64(len(d.stream.messages)) - d.start,
	}
	for _, p := range d.places {
		switch p.state {
		case buffer.Delivered:
			a.Delivered++
		case buffer.Cancelled:
			a.Cancelled++
		case buffer.Expired:
			a.Expired++
		case buffer.Dead:
			a.Dead++
		default:
			a.Buffered++
		}
	}
	return a
}

// Pending is how many messages of a drain wait for their first attempt.
func (m *Mem) Pending(drain string) uint64 {
	for _, d := range m.Stats().Drains {
		if d.Drain == drain {
			return d.Pending
		}
	}
	return 0
}
