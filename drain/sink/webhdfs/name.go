package webhdfs

import (
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	"forebay/drain"
)

const dayFormat = "2006-01-02"

// folder is where the messages of a day lie.
func (s *Sink) folder(day string) string { return folderOf(s.policy.Path, day) }

func folderOf(place, day string) string { return strings.ReplaceAll(place, "{date}", day) }

func (s *Sink) day(m drain.Delivery) string {
	return m.AcceptedAt.In(s.policy.Location).Format(dayFormat)
}

// date is day for those who ask for each message.
func (s *Sink) date(m drain.Delivery) [3]int {
	year, month, day := m.AcceptedAt.In(s.policy.Location).Date()
	return [3]int{year, int(month), day}
}

// folders are those of a place of what was accepted since a time, from the day before, where a file
// may be left that was given up at midnight, to the day after the present one, for clocks
// that differ.
func (s *Sink) folders(place string, since, now time.Time) []string {
	if !strings.Contains(place, "{date}") {
		return []string{place}
	}
	var list []string
	at := since.In(s.policy.Location).AddDate(0, 0, -1)
	last := now.In(s.policy.Location).AddDate(0, 0, 1).Format(dayFormat)
	for day := time.Date(at.Year(), at.Month(), at.Day(), 12, 0, 0, 0, time.UTC); len(list) < maxDays; day = day.AddDate(0, 0, 1) {
		list = append(list, folderOf(place, day.Format(dayFormat)))
		if day.Format(dayFormat) >= last {
			break
		}
	}
	return list
}

// maxDays bounds the folders that are looked through at a start.
const maxDays = 400

// temporary is the name of a file that is being written: readers pass over names that
// begin with a point. No two files have the same, whatever became of the first.
func temporary(folder, drain string, first uint64, now time.Time) string {
	return path.Join(folder, fmt.Sprintf(".forebay-%s-%020d-%d.tmp", drain, first, now.UnixNano()))
}

// finished is the name of one that holds a range.
func (s *Sink) finished(folder, drain string, r drain.Range) string {
	return path.Join(folder, fmt.Sprintf("forebay-%s-%020d-%020d.log%s", drain, r.First, r.Last, s.codec.extension))
}

// isTemporary reports whether a file was being written for a drain.
func isTemporary(name, drain string) bool {
	rest, ok := strings.CutPrefix(name, ".forebay-"+drain+"-")
	return ok && strings.HasSuffix(rest, ".tmp")
}

// rangeOf reads the range of a drain's finished file from its name; false: it is none.
func rangeOf(name, of string) (r drain.Range, ok bool) {
	rest, ok := strings.CutPrefix(name, "forebay-"+of+"-")
	if !ok || len(rest) < 41 || rest[20] != '-' || !strings.HasPrefix(rest[41:], ".log") {
		return r, false
	}
	first, err1 := strconv.ParseUint(rest[:20], 10, 64)
	last, err2 := strconv.ParseUint(rest[21:41], 10, 64)
	return drain.Range{First: first, Last: last}, err1 == nil && err2 == nil && first <= last
}
