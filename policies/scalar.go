package policies

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"go.yaml.in/yaml/v3"

	"forebay/limiter"
)

const maxNameBytes = 63

var nameForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)

// str returns a string of the policy. A number or true in its place is a mistake:
// in YAML, quotes tell them apart.
func (v value) str() (string, bool) {
	if v.node.Kind == yaml.ScalarNode && v.node.ShortTag() == "!!str" {
		return v.node.Value, true
	}
	hint := "write one value, not several"
	if v.node.Kind == yaml.ScalarNode && v.node.Style&yaml.TaggedStyle == 0 {
		hint = "put it in quotes: " + quote(v.node.Value)
	}
	v.fail(hint, "%s must be a string, not %s", v.name, kind(v.node))
	return "", false
}

// word returns a scalar as it is written, whether YAML would call it a string, a
// number or a date: 50/s and 50 are both rates.
func (v value) word(what string) (string, bool) {
	tags := []string{"!!str", "!!int", "!!float", "!!timestamp"}
	if v.node.Kind == yaml.ScalarNode && slices.Contains(tags, v.node.ShortTag()) {
		return v.node.Value, true
	}
	v.fail("write "+what, "%s must be %s, not %s", v.name, what, kind(v.node))
	return "", false
}

// id reads the name of an object.
func (v value) id(to *text) {
	s, ok := v.str()
	if !ok {
		return
	}
	if len(s) > maxNameBytes {
		v.fail("choose a shorter one", "name %s is over %d bytes", quote(s), maxNameBytes)
		return
	}
	if !nameForm.MatchString(s) {
		v.fail(idHint(s), "%s is not a name: small letters, digits, and - between them", quote(s))
		return
	}
	*to = text{s, v.place()}
}

// idHint turns what was written into a name, as far as that can be done.
func idHint(s string) string {
	mended := strings.Map(func(r rune) rune {
		if r == '_' || r == ' ' || r == '.' || r == '/' {
			return '-'
		}
		return unicode.ToLower(r)
	}, s)
	if mended = strings.Trim(mended, "-"); nameForm.MatchString(mended) {
		return "write " + mended
	}
	return ""
}

// ref reads the name of another object; link looks it up.
func (v value) ref(to *text) {
	if s, ok := v.str(); ok {
		*to = text{s, v.place()}
	}
}

func (v value) refs(limit int, to *[]text) {
	v.list(limit, func(item value) {
		var t text
		if item.ref(&t); t.src != nil {
			*to = append(*to, t)
		}
	})
}

// form reads a string of a form, which words tells people.
func (v value) form(pattern *regexp.Regexp, words string, to *string) {
	s, ok := v.str()
	if !ok {
		return
	}
	if !pattern.MatchString(s) {
		v.fail("write "+words, "%s cannot be %s", v.name, quote(s))
		return
	}
	*to = s
}

// number reads a whole number from lo to hi.
func (v value) number(to *int, lo, hi int) {
	s, ok := v.word("a whole number")
	if !ok {
		return
	}
	n, ok := parseInt(s)
	if !ok {
		v.fail(fmt.Sprintf("write a number from %d to %d", lo, hi), "%s must be a whole number, not %s", v.name, quote(s))
		return
	}
	if n < lo || n > hi {
		v.fail(fmt.Sprintf("write a number from %d to %d", lo, hi), "%s is out of range: %d", v.name, n)
		return
	}
	*to = n
}

// size reads bytes from lo to hi.
func (v value) size(to *int64, lo, hi int64) {
	s, ok := v.word("a size")
	if !ok {
		return
	}
	n, err := ParseSize(s)
	if err != nil {
		v.fail(sizeHint(s), "%s: %v", v.name, err)
		return
	}
	if n < lo {
		v.fail("write "+formatSize(lo)+" or more", "%s must be at least %s", v.name, formatSize(lo))
		return
	}
	if n > hi {
		v.fail("write "+formatSize(hi)+" or less", "%s must be at most %s", v.name, formatSize(hi))
		return
	}
	*to = n
}

func formatSize(n int64) string {
	for _, unit := range []string{"TiB", "GiB", "MiB", "KiB"} {
		if per := sizeUnits[unit]; n >= per && n%per == 0 {
			return fmt.Sprintf("%d%s", n/per, unit)
		}
	}
	return fmt.Sprintf("%d", n)
}

// duration reads a duration from lo to hi.
func (v value) duration(to *time.Duration, lo, hi time.Duration) {
	s, ok := v.word("a duration")
	if !ok {
		return
	}
	d, err := ParseDuration(s)
	if err != nil {
		v.fail(durationHint(s), "%s: %v", v.name, err)
		return
	}
	if d < lo {
		v.fail("write "+formatDuration(lo)+" or more", "%s must be at least %s", v.name, formatDuration(lo))
		return
	}
	if d > hi {
		v.fail("write "+formatDuration(hi)+" or less", "%s must be at most %s", v.name, formatDuration(hi))
		return
	}
	*to = d
}

// formatDuration prints a duration as policies write it: 24h, not 24h0m0s, and
// 14d.
func formatDuration(d time.Duration) string {
	const day = 24 * time.Hour
	if d > day && d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// rate reads a rate.
func (v value) rate(to *limiter.Rate) {
	s, ok := v.word("a rate")
	if !ok {
		return
	}
	r, err := ParseRate(s)
	if err != nil {
		v.fail(rateHint(s), "%s: %v", v.name, err)
		return
	}
	*to = r
}

// byteRate reads bytes a second.
func (v value) byteRate(to *int64) {
	s, ok := v.word("a size a second")
	if !ok {
		return
	}
	size, unit, _ := strings.Cut(s, "/")
	n, err := ParseSize(size)
	if unit != "" && unit != "s" || strings.HasSuffix(s, "/") || err != nil || n < 1 {
		v.fail("write 40MiB/s", "%s: %s is not a size a second such as 40MiB/s", v.name, quote(s))
		return
	}
	*to = n
}

// choice reads one of a few words. Those that the language has and this version
// does not are refused and returned, so that what goes with them is judged too.
func (v value) choice(built, later []string) (string, bool) {
	s, ok := v.str()
	if !ok {
		return "", false
	}
	if slices.Contains(later, s) {
		v.notYet(fmt.Sprintf("this version has %s: %s", v.name, few(built)), v.name+": "+s)
		return s, true
	}
	if !slices.Contains(built, s) {
		hint := suggest(s, built, "it is one of")
		if best := nearest(s, later); best != "" && nearest(s, built) == "" {
			hint = "did you mean " + best + "? it is not supported yet"
		}
		v.fail(hint, "%s cannot be %s", v.name, quote(s))
		return "", false
	}
	return s, true
}

// boolean reads true or false.
func (v value) boolean(to *bool) {
	if v.node.Kind != yaml.ScalarNode || v.node.ShortTag() != "!!bool" {
		v.fail("write true or false", "%s must be true or false, not %s", v.name, kind(v.node))
		return
	}
	*to = strings.EqualFold(v.node.Value, "true")
}

// percent reads a share from 1% to 100%.
func (v value) percent(to *float64) {
	s, ok := v.word("a share")
	if !ok {
		return
	}
	number, unit := cutNumber(s)
	n, ok := parseNumber(number)
	if !ok || unit != "%" {
		v.fail(percentHint(n, unit), "%s: %s is not a share such as 20%%", v.name, quote(s))
		return
	}
	if n < 1 || n > 100 {
		v.fail("write 1% to 100%", "%s must be from 1%% to 100%%, not %s", v.name, s)
		return
	}
	*to = n / 100
}

// percentHint takes a number up to 1 for the share itself.
func percentHint(n float64, unit string) string {
	if unit != "" || n <= 0 {
		return "write 20%"
	}
	if n <= 1 {
		n *= 100
	}
	return "write " + strconv.FormatFloat(n, 'f', -1, 64) + "%"
}

// ratio reads a number over 0, up to 1.
func (v value) ratio(to *float64) {
	s, ok := v.word("a number")
	if !ok {
		return
	}
	n, ok := parseNumber(s)
	if !ok || n <= 0 || n > 1 {
		v.fail("write a number over 0 and up to 1, such as 0.5", "%s cannot be %s", v.name, quote(s))
		return
	}
	*to = n
}
