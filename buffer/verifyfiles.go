package buffer

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"forebay/buffer/block"
	"forebay/buffer/segment"
)

const logName = segment.LogFile

// lostBlock is a block of messages that an index has and the log has not.
type lostBlock struct {
	ref *segmentRef
	indexedBlock
}

// segmentEnds are the first and the last block of a segment, which go on in others.
type segmentEnds struct {
	file        string
	first, last link
}

// link is a block in the chain of checksums.
type link struct {
	seq        uint64
	chain, sum uint32
	at         int64
}

// keyCopies says whether the directory is encrypted, and checks that its keys are there twice.
func (v *verification) keyCopies() {
	v.verdict.Encrypted = len(v.e.key.data) > 0 && !v.e.key.changed
	if v.e.key.damaged {
		v.report(Damage{File: filepath.Join(v.e.cfg.Dir, keyFile), At: -1, What: "one of two copies of the keys", Remade: true})
	}
}

// inClear counts what is not encrypted.
func (v *verification) inClear(is bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.verdict.Encrypted && is {
		v.verdict.Clear++
	}
}

// findSegments reads what a start reads of the segments. whole is false where it
// would refuse.
func (v *verification) findSegments() (segs []*foundSegment, whole bool, err error) {
	ids, err := segmentIDs(v.e.cfg.Dir)
	if err != nil {
		return nil, false, err
	}
	whole = true
	for _, id := range ids {
		v.e.lastID = max(v.e.lastID, id)
		f, err := v.e.examine(id)
		if why, ok := errors.AsType[refusal](err); ok {
			v.report(Damage{File: v.e.segmentDir(id), At: -1, What: why.Error()})
			whole, v.verdict.Refused = false, true
			continue
		}
		if err != nil {
			return nil, false, err
		}
		segs = append(segs, f)
		if path := filepath.Join(f.ref.seg.Dir, indexFile); f.index == nil && exists(path) {
			v.report(Damage{File: path, At: -1, What: "the index of a segment", Remade: true})
		}
	}
	return segs, whole, v.e.scanAll(segs)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// makeState makes the state that a start would make, and takes down what would be
// missing in it.
func (v *verification) makeState(segs []*foundSegment) error {
	err := v.e.makeState(segs)
	if why, ok := errors.AsType[refusal](err); ok {
		v.report(Damage{File: v.e.cfg.Dir, At: -1, What: why.Error()})
		v.verdict.Refused = true
		return nil
	}
	if err != nil {
		return err
	}
	if n := v.e.recovery.Lost; n > 0 {
		v.report(Damage{File: v.e.cfg.Dir, At: -1, What: fmt.Sprintf("blocks that had been made durable and are not there: %d", n)})
	}
	for _, s := range v.e.sortedStreams() {
		s.eachHole(func(from, end uint64) {
			if v.lose(s, from, end) {
				v.report(Damage{File: v.e.cfg.Dir, At: -1, What: "messages that no block has", Stream: s.Name, First: from, Count: end - from})
			}
		})
	}
	return nil
}

// segment reads a log whole, and the files beside it.
func (v *verification) segment(f *foundSegment) error {
	path := filepath.Join(f.ref.seg.Dir, logName)
	size := fileSize(path)
	var links []link
	places := map[uint32]uint64{} // where the sound blocks are, and which
	messages, seen := uint64(0), int64(0)
	found, err := segment.Scan(f.ref.seg.Dir, v.e.comp.Sealer, func(at int64, h block.Header, payload, raw []byte) error {
		v.progress(at + int64(len(raw)) - seen)
		seen = at + int64(len(raw))
		links = append(links, link{h.Seq, h.Chain, h.Sum, at})
		n, err := v.e.content(h, payload)
		if err != nil {
			v.report(Damage{File: path, At: at, What: err.Error(), Stream: v.e.streamName(h.Stream), First: h.First, Count: uint64(n)})
			return v.ctx.Err()
		}
		places[uint32(at)] = h.Seq
		messages += uint64(n)
		return v.ctx.Err()
	})
	if err := v.unreadable(path, err); err != nil {
		return err
	}
	v.progress(size - seen)
	v.counted(seen, found.Blocks, messages)
	v.inClear(f.clear())
	v.chain(path, links)
	if f.index == nil {
		for _, at := range found.Places {
			v.report(Damage{File: path, At: at, What: "blocks, of what is not known"})
		}
		return nil
	}
	if v.indexed(f, path, places) == 0 {
		for _, at := range found.Places {
			v.report(Damage{File: path, At: at, What: "bytes between blocks", Remade: true})
		}
	}
	return v.sideFiles(f)
}

// content decodes a block, and returns how many messages it has.
func (e *Engine) content(h block.Header, payload []byte) (messages int, err error) {
	raw, err := e.comp.Unpack(h, payload)
	if err != nil {
		return 0, err
	}
	if h.Kind != block.Messages {
		return 0, eachOp(asString(raw), func(*operation) error { return nil })
	}
	dec, err := decode(h, raw)
	if err != nil {
		return int(h.Count), err
	}
	return len(dec.at), nil
}

func (e *Engine) streamName(num uint32) string {
	if s := e.byNum[num]; s != nil {
		return s.Name
	}
	return ""
}

// indexed compares the log of a sealed segment with its index, and returns how many
// blocks are missing.
func (v *verification) indexed(f *foundSegment, path string, places map[uint32]uint64) (missing int) {
	for _, b := range f.index.blocks {
		if places[b.at] == b.seq {
			continue
		}
		missing++
		v.mu.Lock()
		v.blocks = append(v.blocks, lostBlock{f.ref, b})
		v.mu.Unlock()
	}
	for _, c := range f.index.controls {
		if places[c.at] == c.seq {
			continue
		}
		missing++
		v.report(Damage{File: path, At: int64(c.at), What: "a block of changes", control: c.seq})
	}
	return missing
}

// loseBlock says what was in a block of messages, and who needs it.
func (v *verification) loseBlock(b lostBlock) {
	d := Damage{
		File: filepath.Join(b.ref.seg.Dir, logName), At: int64(b.at), What: "a block of messages",
		Stream: v.e.streamName(b.stream), First: b.first, Count: uint64(b.count),
	}
	s := v.e.byNum[b.stream]
	d.Remade = s == nil
	if s != nil {
		ref := s.block(b.first)
		d.Remade = ref == nil || ref.seg != b.ref || ref.at != b.at || !v.lose(s, b.first, b.first+uint64(b.count))
	}
	if d.Remade {
		d.What += " that nobody needs any more"
	}
	v.report(d)
}

// chain checks that each block follows the one before it.
func (v *verification) chain(path string, links []link) {
	if len(links) == 0 {
		return
	}
	slices.SortFunc(links, func(a, b link) int { return cmp.Compare(a.seq, b.seq) })
	for i := range links[1:] {
		v.follows(path, links[i], links[i+1])
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.ends = append(v.ends, segmentEnds{path, links[0], links[len(links)-1]})
}

func (v *verification) follows(path string, a, b link) {
	if b.seq == a.seq+1 && b.chain != a.sum {
		v.report(Damage{File: path, At: b.at, What: fmt.Sprintf("block %d does not follow block %d: one of them is not as it was written", b.seq, a.seq)})
	}
}

// checkEnds does so across segments.
func (v *verification) checkEnds() {
	slices.SortFunc(v.ends, func(a, b segmentEnds) int { return cmp.Compare(a.first.seq, b.first.seq) })
	for i := range v.ends {
		if i > 0 {
			v.follows(v.ends[i].file, v.ends[i-1].last, v.ends[i].first)
		}
	}
}

// sideFiles checks what lies beside the log of a sealed segment; the index was read.
func (v *verification) sideFiles(f *foundSegment) error {
	path := filepath.Join(f.ref.seg.Dir, keysFile)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // without keys there is none, and it is made where it is missed
	}
	if err != nil {
		return v.unreadable(path, err)
	}
	v.counted(info.Size(), 0, 0)
	_, err = openKeyTable(v.e.comp, f.ref.seg.Dir)
	if errors.Is(err, block.ErrDamaged) {
		v.report(Damage{File: path, At: -1, What: "the keys of a segment", Remade: true})
	} else if err != nil {
		return v.unreadable(path, err)
	}
	return nil
}

// recordFiles are the files of records, without those that a merge had no time to remove.
func (v *verification) recordFiles() (paths []string, err error) {
	for _, pattern := range []string{outcomeDir + "/*.out", outcomeDir + "/*" + answerExtension, onceDirName + "/*.once", onceDirName + "/*.outer"} {
		found, err := filepath.Glob(filepath.Join(v.e.cfg.Dir, pattern))
		if err != nil {
			return nil, err
		}
		paths = append(paths, found...)
	}
	return slices.DeleteFunc(paths, func(path string) bool {
		return strings.HasSuffix(path, ".once") && slices.ContainsFunc(paths, func(other string) bool {
			return strings.HasSuffix(other, ".once") && covers(other, path)
		})
	}), nil
}

// recordFile checks every chunk of a file of records.
func (v *verification) recordFile(path string) error {
	size := fileSize(path)
	defer v.progress(size)
	if filepath.Ext(path) == ".outer" {
		return v.outer(path, size)
	}
	chunks, err := openChunks(path)
	if chunks == nil {
		return v.unreadable(path, err)
	}
	what := map[string]string{
		".out": "how messages ended, and whose they are: their receipts are gone", answerExtension: "answers of sinks: receipts show the status alone",
		".once": "idempotency keys: what is sent again may be stored again",
	}[filepath.Ext(path)]
	if err != nil || len(chunks) == 0 {
		end := int64(0)
		if n := len(chunks); n > 0 {
			end = chunks[n-1].pos + int64(chunks[n-1].size)
		}
		v.report(Damage{File: path, At: end, What: what})
	}
	for _, x := range chunks {
		if v.e.recordsSound(path, x) != nil {
			v.report(Damage{File: path, At: x.pos, What: what, Count: uint64(x.h.Count)})
		}
	}
	v.counted(size, 0, 0)
	v.inClear(inClear(chunks))
	if filepath.Ext(path) == ".once" {
		v.filter(path, size)
	}
	return nil
}

// recordsSound reads one chunk.
func (e *Engine) recordsSound(path string, x chunk) error {
	sealed, err := x.load(path)
	if err != nil {
		return err
	}
	switch filepath.Ext(path) {
	case ".once":
		_, err = openOnceChunk(sealed, e.comp)
	case ".out":
		_, err = unpackOutcomes(e.comp, sealed)
	default:
		var h block.Header
		var payload []byte
		if h, payload, err = e.comp.Open(sealed); err == nil {
			_, err = e.comp.Unpack(h, payload)
		}
	}
	return err
}

// filter checks that of a file of idempotency records. Where a crash came between
// the two it is missing, which is no damage: a start makes it.
func (v *verification) filter(path string, size int64) {
	t := &onceTable{path: path, coder: v.e.comp, size: size}
	err := t.mapFilter()
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		v.report(Damage{File: filterPath(path), At: -1, What: "the filter of a file of idempotency keys", Remade: true})
		return
	}
	v.counted(fileSize(filterPath(path)), 0, 0)
}

// outer checks the filter of several files of idempotency records, whichever they are.
func (v *verification) outer(path string, size int64) error {
	f, err := os.Open(path)
	if err != nil {
		return v.unreadable(path, err)
	}
	defer f.Close()
	if _, _, _, err := outerMarks(f, v.e.comp); err != nil {
		v.report(Damage{File: path, At: -1, What: "a filter of several files of idempotency keys", Remade: true})
		return nil
	}
	v.counted(size, 0, 0)
	return nil
}

// names checks the copy of the names.
func (v *verification) names() {
	path := filepath.Join(v.e.cfg.Dir, namesFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err == nil {
		var payload []byte
		if _, payload, err = v.e.comp.Open(data); err == nil {
			err = eachOp(asString(payload), func(*operation) error { return nil })
		}
	}
	if err != nil {
		v.report(Damage{File: path, At: -1, What: "the names of streams and drains", Remade: true})
		return
	}
	v.counted(int64(len(data)), 0, 0)
}
