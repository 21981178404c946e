package buffer

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"forebay/buffer/block"
)

// KEY is 16 bytes, the key of receipt ids, or in an encrypted directory that and the
// data keys, wrapped by a master key:
//
//	8        magic
//	8        id of the master key
//	uint32   length of what follows
//	…        nonce, AES-256-GCM of the secrets, tag
//	uint32   CRC-32C of all before
//
// All that is stored hangs on it. So it is there twice, in different pages.

const (
	sealedKeyMagic = "FBKEY 1\n"
	sealedKeyHead  = len(sealedKeyMagic) + 8 + 4
	keyPage        = 4 << 10
)

// secrets are what KEY holds.
type secrets struct {
	receipts [aes.BlockSize]byte
	data     []block.DataKey // the last one is used; none: nothing is encrypted
}

func newSecrets(encrypted bool) (s secrets) {
	_, _ = rand.Read(s.receipts[:]) // never fails
	if encrypted {
		s.data = []block.DataKey{block.NewDataKey()}
	}
	return s
}

// encode makes the content of KEY. by is not used where nothing is encrypted.
func (s *secrets) encode(by []MasterKey) ([]byte, error) {
	if len(s.data) == 0 {
		return s.receipts[:], nil
	}
	aead, err := by[0].aead()
	if err != nil {
		return nil, err
	}
	plain := s.receipts[:]
	for _, k := range s.data {
		plain = append(plain, k[:]...)
	}
	id := by[0].id()
	b := append([]byte(sealedKeyMagic), id[:]...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(plain)+aead.Overhead()))
	b = aead.Seal(b, nil, plain, b[:sealedKeyHead])
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	pages := make([]byte, (len(b)+keyPage-1)/keyPage*keyPage)
	copy(pages, b)
	return append(pages, b...), nil
}

func (k MasterKey) aead() (cipher.AEAD, error) {
	b, err := aes.NewCipher(k.secret[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(b)
}

// WrongKeyError means that a directory is encrypted with a master key that was not given.
type WrongKeyError struct {
	Dir    string
	Wanted string   // id of the master key
	Given  []string // ids of those there are
}

func (e *WrongKeyError) Error() string {
	if len(e.Given) == 0 {
		return fmt.Sprintf("data directory %s is encrypted, with master key %s: set buffer.encryption_key_file to a file that has it", e.Dir, e.Wanted)
	}
	return fmt.Sprintf("data directory %s is encrypted with master key %s, and buffer.encryption_key_file has %s: add the line of that key",
		e.Dir, e.Wanted, strings.Join(e.Given, ", "))
}

// keyFileState is KEY as it was read.
type keyFileState struct {
	secrets
	by      MasterKey // that wraps it; none where it is in the clear
	damaged bool      // one of its copies is
	changed bool      // since
}

// readKey reads the secrets of a directory.
func readKey(dir string, masters []MasterKey) (*keyFileState, error) {
	b, err := os.ReadFile(filepath.Join(dir, keyFile))
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	x := &keyFileState{}
	if len(b) == len(x.receipts) && !bytes.HasPrefix(b, []byte(sealedKeyMagic)) {
		copy(x.receipts[:], b)
		return x, nil
	}
	first, second := soundKey(b), soundKey(b[min(len(b), (len(b)+keyPage-1)/keyPage/2*keyPage):])
	x.damaged = first == nil || second == nil
	if first == nil {
		first = second
	}
	if first == nil {
		return nil, refusal{fmt.Errorf("data directory %s: %s is damaged, in %d bytes; restore it from a backup", dir, keyFile, len(b))}
	}
	return x, x.unwrap(dir, first, masters)
}

// soundKey is the copy that begins a part of KEY, without its checksum; nil: it is damaged.
func soundKey(b []byte) []byte {
	if len(b) < sealedKeyHead || !bytes.HasPrefix(b, []byte(sealedKeyMagic)) {
		return nil
	}
	end := sealedKeyHead + int(binary.LittleEndian.Uint32(b[sealedKeyHead-4:]))
	if end > len(b)-crc32.Size || crc32.Checksum(b[:end], castagnoli) != binary.LittleEndian.Uint32(b[end:]) {
		return nil
	}
	return b[:end]
}

// unwrap reads the secrets of a sound copy.
func (x *keyFileState) unwrap(dir string, b []byte, masters []MasterKey) error {
	wanted := [8]byte(b[len(sealedKeyMagic):])
	wrong := &WrongKeyError{Dir: dir, Wanted: hex.EncodeToString(wanted[:])}
	for _, k := range masters {
		if k.id() != wanted {
			wrong.Given = append(wrong.Given, k.ID())
			continue
		}
		aead, err := k.aead()
		if err != nil {
			return err
		}
		plain, err := aead.Open(nil, nil, b[sealedKeyHead:], b[:sealedKeyHead])
		if err != nil || len(plain) <= len(x.receipts) || (len(plain)-len(x.receipts))%len(block.DataKey{}) != 0 {
			return refusal{fmt.Errorf("data directory %s: %s is not what was encrypted; restore it from a backup", dir, keyFile)}
		}
		x.by = k
		for plain = plain[copy(x.receipts[:], plain):]; len(plain) > 0; plain = plain[len(block.DataKey{}):] {
			x.data = append(x.data, block.DataKey(plain))
		}
		return nil
	}
	return wrong
}

// writeKey replaces KEY; durable when it returns.
func writeKey(dir string, s *secrets, masters []MasterKey) error {
	b, err := s.encode(masters)
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, keyFile), b)
}

// loadKey reads the secrets of the directory, and makes those that it lacks: a
// directory that was in the clear is encrypted from this start on, once keepKey made
// that durable. It writes nothing.
func (e *Engine) loadKey() error {
	x, err := readKey(e.cfg.Dir, e.cfg.MasterKeys)
	if err != nil {
		return err
	}
	e.key = x
	if len(e.cfg.MasterKeys) > 0 && len(x.data) == 0 {
		x.data, x.changed = []block.DataKey{block.NewDataKey()}, true
	}
	if len(x.data) > 0 {
		if e.comp.Keys, err = block.NewDataKeys(x.data); err != nil {
			return err
		}
	}
	if e.ids, err = aes.NewCipher(x.receipts[:]); err != nil {
		return err
	}
	// Where checksums start: of the key, and not the key.
	var seed [aes.BlockSize]byte
	seed[0] = 1
	e.ids.Encrypt(seed[:], seed[:])
	e.comp.Seed = binary.LittleEndian.Uint32(seed[:])
	var secret [aes.BlockSize]byte
	secret[0] = 2
	e.ids.Encrypt(secret[:], secret[:])
	e.keyHash = keyHash{binary.LittleEndian.Uint64(secret[:]), binary.LittleEndian.Uint64(secret[8:])}
	return nil
}

// keepKey makes the secrets durable that a start made, and mends a copy of them.
func (e *Engine) keepKey() error {
	x := e.key
	if len(x.data) == 0 {
		return nil
	}
	by, first := []MasterKey{x.by}, e.cfg.MasterKeys[0]
	switch {
	case x.changed:
		by[0] = first
		e.log.Info("the data directory is encrypted from now on", "master_key", first.ID())
	case x.damaged:
		e.log.Error("one of two copies of the keys is damaged; it is written again", "file", keyFile)
	}
	if by[0] != first {
		e.log.Warn("another than the first key of the key file is in use until 'forebay encryption rotate'", "in_use", x.by.ID(), "first", first.ID())
	}
	if !x.changed && !x.damaged {
		return nil
	}
	return writeKey(e.cfg.Dir, &x.secrets, by)
}

// countClear says what was stored before the directory was encrypted.
func (e *Engine) countClear(segs []*foundSegment) {
	if e.comp.Keys == nil {
		return
	}
	for _, f := range segs {
		if f.clear() {
			e.recovery.Clear++
		}
	}
	files := 0
	for _, s := range e.outcomeFiles {
		files += int(b2u(inClear(s.chunks)))
	}
	for _, s := range e.answerFiles {
		files += int(b2u(inClear(s.chunks)))
	}
	for _, t := range e.onceFiles {
		files += int(b2u(t.dir.mask == nil))
	}
	if e.recovery.Clear+files > 0 {
		e.log.Warn("what was stored before the directory was encrypted is in the clear until nobody needs it", "segments", e.recovery.Clear, "files_of_records", files)
	}
}

// clear reports whether some of a segment is not encrypted.
func (f *foundSegment) clear() bool {
	if f.index != nil {
		return f.index.clear
	}
	return slices.ContainsFunc(f.scan, func(b scanned) bool { return b.Flags&block.Encrypted == 0 })
}

// inClear reports whether some chunk of a file is not encrypted.
func inClear(chunks []chunk) bool {
	return slices.ContainsFunc(chunks, func(x chunk) bool { return x.h.Flags&block.Encrypted == 0 })
}

// Rotation is what [RotateKey] did.
type Rotation struct {
	From, To string // ids of master keys
	Wrapped  int    // data keys that were wrapped anew; 0: the first key was in use already
}

// RotateKey wraps the data keys of a directory, which no process serves, by the first
// of the master keys, and adds one for what is stored from then on: who knows the old
// master key, and copied the directory before, cannot read that. It is one
// file, replaced in one step and durable when it returns: interrupted, it has
// happened or it has not.
func RotateKey(dir string, masters []MasterKey) (r Rotation, err error) {
	names, err := contents(dir)
	if err != nil {
		return r, err
	}
	if isNew, err := checkFormat(dir, names); err != nil {
		return r, err
	} else if isNew && !names[formatFile] {
		return r, fmt.Errorf("%s is no data directory: it has no %s", dir, formatFile)
	}
	e := &Engine{cfg: Config{Dir: dir}}
	if err := e.takeLock(); err != nil {
		return r, err
	}
	defer e.unlock()
	x, err := readKey(dir, masters)
	if err != nil {
		return r, err
	}
	if len(x.data) == 0 {
		return r, fmt.Errorf("data directory %s is not encrypted: start the server with buffer.encryption_key_file, which encrypts what is stored from then on", dir)
	}
	r = Rotation{From: x.by.ID(), To: masters[0].ID()}
	if x.by == masters[0] {
		return r, nil
	}
	r.Wrapped = len(x.data)
	x.data = append(x.data, block.NewDataKey())
	return r, writeKey(dir, &x.secrets, masters)
}
