package policies

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// apiKeys says whose key has which digest.
//
// A look-up takes as long as the digest of what was sent makes it take. That
// leaks nothing of use: nobody can choose the bits of a digest, and to learn some of
// a stored one brings no key nearer that has them all.
type apiKeys map[[sha256.Size]byte]string

// Principal is whose key it is; "" where it is nobody's.
func (k *APIKey) Principal(key string) string { return k.keys[sha256.Sum256([]byte(key))] }

// Principals are all that have a key, sorted.
func (k *APIKey) Principals() []string {
	return slices.Compact(slices.Sorted(maps.Values(k.keys)))
}

// KeyLine is the line of a keys file that makes key one of principal's. It fails
// for what cannot name a principal.
func KeyLine(principal, key string) (string, error) {
	if !principalForm.MatchString(principal) {
		return "", fmt.Errorf("%s cannot name a principal: it takes 1 to 128 printable characters without space, # and quotes", quote(principal))
	}
	sum := sha256.Sum256([]byte(key))
	return principal + ":" + hex.EncodeToString(sum[:]), nil
}

// Of the printable characters of ASCII, those that no line of a file needs.
var principalForm = regexp.MustCompile("^[!$-&(-_a-~]{1,128}$")

// keysFile reads the file that says whose keys are whose.
func (v value) keysFile(to *APIKey) {
	s, ok := v.str()
	if !ok {
		return
	}
	if s == "" {
		v.fail("write its path", "%s is empty", v.name)
		return
	}
	to.KeysFile = v.beside(s)
	data, ok := v.content(to.KeysFile)
	switch {
	case !ok:
	case len(data) > maxFileBytes:
		v.fail("split it, and make an auth entry of each", "keys file %s is over 1 MiB", quote(to.KeysFile))
	case !utf8.Valid(data):
		v.fail("save it as UTF-8", "keys file %s is not UTF-8 text", quote(to.KeysFile))
	default:
		to.keys = v.apiKeys(to.KeysFile, string(data))
		to.open = v.outside.mode != nil && v.outside.mode(to.KeysFile)&0o027 != 0
	}
}

// apiKeys reads a key a line; # begins a comment. Its mistakes are those of the keys
// file, in its own lines, which are not shown: a key itself may stand there.
func (v value) apiKeys(name, text string) apiKeys {
	lines := splitLines(text)
	src := &source{name: name}
	v.found.order[src] = len(v.found.order)
	keys, first := make(apiKeys), make(map[[sha256.Size]byte]int)
	before := v.found.count()
	for i, line := range lines {
		line, _, _ = strings.Cut(line, "#")
		word := strings.TrimSpace(line)
		if word == "" {
			continue
		}
		at := place{src, i + 1, 1 + utf8.RuneCountInString(line[:strings.Index(line, word)])}
		principal, digest, ok := keyOfLine(word)
		switch {
		case !ok:
			v.found.add(at, "`forebay keys new PRINCIPAL` makes a key and its line", "the line is not principal:sha256hex")
		case first[digest] > 0:
			v.found.add(at, "remove one: a key belongs to one principal", fmt.Sprintf("the key is that of line %d", first[digest]))
		default:
			keys[digest], first[digest] = principal, i+1
		}
	}
	if len(keys) == 0 && v.found.count() == before {
		v.fail("`forebay keys new PRINCIPAL` makes a key and its line", "keys file %s holds no key", quote(name))
	}
	return keys
}

// CheckKeyLines fails where a line of text is none that a keys file may have.
func CheckKeyLines(text string) error {
	for i, line := range splitLines(text) {
		line, _, _ = strings.Cut(line, "#")
		if word := strings.TrimSpace(line); word != "" {
			if _, _, ok := keyOfLine(word); !ok {
				return fmt.Errorf("line %d is not principal:sha256hex", i+1)
			}
		}
	}
	return nil
}

// keyOfLine takes the last colon, so that a URI can name a principal.
func keyOfLine(s string) (principal string, digest [sha256.Size]byte, ok bool) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 || !principalForm.MatchString(s[:i]) || len(s)-i-1 != hex.EncodedLen(len(digest)) {
		return "", digest, false
	}
	_, err := hex.Decode(digest[:], []byte(s[i+1:]))
	return s[:i], digest, err == nil
}
