package buffer

import (
	"runtime"
	"runtime/debug"
	"slices"

	"forebay/buffer/block"
)

// onceShelf is what a look-up asks one filter of: a table, or the files behind an outer
// filter.
type onceShelf struct {
	bits  bloom
	mask  *block.DataKeys // what bits is asked with; nil: keys as they are
	table *onceTable      // whose filter that is; nil: it is an outer one
	outer *outerFilter
	inner []onceShelf // of the files behind it, oldest first
}

func shelfOf(t *onceTable) onceShelf { return onceShelf{bits: t.dir.bits, mask: t.dir.mask, table: t} }

func shelvesOf(tables []*onceTable) (all []onceShelf) {
	for _, t := range tables {
		all = append(all, shelfOf(t))
	}
	return all
}

// tables is what a shelf has, oldest first.
func (s *onceShelf) tables() (all []*onceTable) {
	if s.table != nil {
		return []*onceTable{s.table}
	}
	return tablesOf(s.inner)
}

func tablesOf(shelves []onceShelf) (all []*onceTable) {
	for i := range shelves {
		all = append(all, shelves[i].tables()...)
	}
	return all
}

func (s *onceShelf) records() (n uint64) {
	for _, t := range s.tables() {
		n += t.dir.records
	}
	return n
}

// shelve puts tables, oldest first, behind outer filters. An outer filter is of use
// where it is of all tables in its span, and no other is before one of them, as after a
// crash that came before that was removed; those of no use are returned too.
func shelve(tables []*onceTable, outers []*outerFilter) (all []onceShelf, useless []*outerFilter) {
	behind := map[*onceTable]*outerFilter{}
	for _, x := range outers {
		in := x.between(tables)
		if len(in) == 0 || slices.ContainsFunc(in, func(t *onceTable) bool { return behind[t] != nil || !slices.Contains(x.tables, t) }) {
			useless = append(useless, x)
			continue
		}
		x.tables = in // lets go of those that went
		for _, t := range in {
			behind[t] = x
		}
	}
	for _, t := range tables {
		x := behind[t]
		switch {
		case x == nil:
			all = append(all, shelfOf(t))
		case t == x.tables[0]:
			all = append(all, onceShelf{bits: x.bits, mask: x.mask, outer: x, inner: shelvesOf(x.tables)})
		}
	}
	return all, useless
}

// onceProbe is a key as filters are asked for it.
type onceProbe struct{ key, masked [16]byte }

func newOnceProbe(in []onceShelf, key [16]byte) onceProbe {
	p := onceProbe{key: key}
	for i := range in {
		if in[i].mask != nil { // all that is encrypted in a directory has the same
			p.masked = in[i].mask.Mask(key)
			break
		}
	}
	return p
}

func (p *onceProbe) halves(s *onceShelf) (a, b uint64) {
	key := &p.key
	if s.mask != nil {
		key = &p.masked
	}
	if s.outer != nil {
		return outerHalves(*key)
	}
	return halves(*key)
}

// probably is the tables that a key is probably in, the last one first. A page that
// the disk does not give may have anything: then that is all of them.
func probably(in []onceShelf, key [16]byte) (found []*onceTable) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if recover() != nil {
			found = tablesOf(in)
			slices.Reverse(found)
		}
	}()
	p := newOnceProbe(in, key)
	p.fetchLines(in)
	for i := len(in) - 1; i >= 0; i-- {
		s := &in[i]
		a, b := p.halves(s)
		switch {
		case !s.bits.has(a, b, filterProbes):
		case s.table != nil:
			found = append(found, s.table)
		default:
			found = append(found, probably(s.inner, key)...)
		}
	}
	runtime.KeepAlive(in) // they hold the mappings
	return found
}

// fetchLines reads a byte of what each filter will be asked, and nothing between: so the
// processor waits for the memory of all at once, and not for one after the other, which
// is half of what many large filters take.
func (p *onceProbe) fetchLines(in []onceShelf) {
	read := byte(0)
	for i := range in {
		a, _ := p.halves(&in[i])
		read |= in[i].bits.block(a)[0]
	}
	runtime.KeepAlive(read) // or the compiler would leave it out
}
