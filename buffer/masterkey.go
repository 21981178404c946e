package buffer

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"strings"
)

// MasterKey wraps the data keys of directories. It is never stored there. However it
// is printed, what comes out is its id.
type MasterKey struct{ secret [32]byte }

const (
	masterKeyForm = "64 hexadecimal digits, or the base64 of 32 bytes"
	maxKeyFile    = 64 << 10
)

// NewMasterKey returns the line of a key file for a new random key.
func NewMasterKey() string {
	var k MasterKey
	_, _ = rand.Read(k.secret[:]) // never fails
	return hex.EncodeToString(k.secret[:])
}

// ID names a key without saying anything of it: 16 hexadecimal digits.
func (k MasterKey) ID() string {
	id := k.id()
	return hex.EncodeToString(id[:])
}

func (k MasterKey) id() (id [8]byte) {
	mac := hmac.New(sha256.New, k.secret[:])
	_, _ = io.WriteString(mac, "id") // a hash takes everything
	copy(id[:], mac.Sum(nil))
	return id
}

// Format keeps the secret from every verb.
func (k MasterKey) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, k.ID()) }

// MarshalText keeps the secret from encoders.
func (k MasterKey) MarshalText() ([]byte, error) { return []byte(k.ID()), nil }

// ReadMasterKeys reads a key file: one key a line, lines with # and empty ones aside.
// The first is the one that wraps; the others only unwrap what it did not wrap yet.
// warning is not empty where others than the owner and the group may read the file.
func ReadMasterKeys(path string) (keys []MasterKey, warning string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, "", fmt.Errorf("encryption key file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, "", fmt.Errorf("encryption key file: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return nil, "", fmt.Errorf("encryption key file: %w", err)
	}
	if len(text) > maxKeyFile {
		return nil, "", fmt.Errorf("encryption key file %s has more than %d KiB: is it the right one?", path, maxKeyFile>>10)
	}
	if mode := info.Mode().Perm(); info.Mode().IsRegular() && mode&^0o640 != 0 {
		warning = fmt.Sprintf("the encryption key file has mode %04o, which lets others read or change it: chmod 600 %s", mode, path)
	}
	keys, err = parseMasterKeys(path, text)
	return keys, warning, err
}

func parseMasterKeys(path string, text []byte) (keys []MasterKey, err error) {
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		k, ok := parseMasterKey(line)
		if !ok {
			return nil, fmt.Errorf("encryption key file %s: line %d is no key, which is %s: 'forebay encryption new-key FILE' makes one", path, n, masterKeyForm)
		}
		keys = append(keys, k)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("encryption key file %s: %w", path, err)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("encryption key file %s has no key: 'forebay encryption new-key FILE' makes one", path)
	}
	return keys, nil
}

func parseMasterKey(line string) (k MasterKey, ok bool) {
	decode := base64.StdEncoding.DecodeString
	if len(line) == hex.EncodedLen(len(k.secret)) {
		decode = hex.DecodeString
	}
	b, err := decode(line)
	if err != nil || len(b) != len(k.secret) {
		return k, false
	}
	return MasterKey{[32]byte(b)}, true
}
