package buffertest

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/go-cmp/cmp/cmpopts"

	"forebay/buffer"
)

// bookmarkSections hold a buffer to keeping how far a source is with what it brought.
func bookmarkSections() []section {
	list := needing([]section{
		{name: "bookmarks", streams: oneDrain(), run: bookmarks},
		{name: "drafts", streams: oneDrain(), run: drafts},
		{name: "bookmarks that cannot be", streams: oneDrain(), run: bookmarksRefused},
		{name: "bookmarks stay where their messages are refused", streams: boundedStream(), run: bookmarksFull},
	}, needBookmarks)
	return append(list, afterReopen([]reopening{
		{name: "keeps bookmarks", streams: oneDrain(), run: bookmarksReopened, needs: []capability{needBookmarks}},
	})...)
}

func (f *fixture) bookmarks() buffer.Bookmarks { return f.Buffer.(buffer.Bookmarks) }

// from appends messages of a source; marks are part and at in turn.
func (f *fixture) from(source string, msgs []buffer.Message, marks ...string) {
	f.Helper()
	a, err := f.bookmarks().AppendFrom(context.Background(), "orders", f.now, msgs, source, pairs(marks))
	if err != nil || a.Count != len(msgs) {
		f.Fatalf("AppendFrom(%d messages, %s, %v) = %+v, %v", len(msgs), source, marks, a, err)
	}
}

func pairs(texts []string) (marks []buffer.Bookmark) {
	for i := 0; i < len(texts); i += 2 {
		marks = append(marks, buffer.Bookmark{Part: texts[i], At: texts[i+1]})
	}
	return marks
}

func (f *fixture) wantBookmarks(source string, marks ...string) {
	f.Helper()
	got, err := f.bookmarks().Bookmarks(context.Background(), source)
	if diff := differ(pairs(marks), got, cmpopts.EquateEmpty()); err != nil || diff != "" {
		f.Fatalf("Bookmarks(%s): %v (-want +got):\n%s", source, err, diff)
	}
}

func bookmarks(f *fixture) {
	f.wantBookmarks("kafka")
	f.from("kafka", []buffer.Message{small(0), small(1)}, "b", "7", "a", "2")
	f.wantBookmarks("kafka", "a", "2", "b", "7")
	f.from("other", []buffer.Message{small(2)}, "a", "99")
	f.from("kafka", nil, "c", "0") // without messages
	f.from("kafka", []buffer.Message{small(3)}, "a", "3")
	f.wantBookmarks("kafka", "a", "3", "b", "7", "c", "0")
	f.wantBookmarks("other", "a", "99")
	f.wantTake("mail", 9, 0, 1, 2, 3)
	f.from("kafka", []buffer.Message{small(4)}, "b", "") // taken away
	f.wantBookmarks("kafka", "a", "3", "c", "0")
	if err := f.bookmarks().KeepBookmarks(context.Background(), []string{"kafka", "new"}); err != nil {
		f.Fatalf("KeepBookmarks: %v", err)
	}
	f.wantBookmarks("kafka", "a", "3", "c", "0")
	f.wantBookmarks("other")
}

// drafts: small ones and those of several blocks, whose messages are made in the memory of
// those before.
func drafts(f *fixture) {
	var want []uint64
	for i, size := range []int{0, 40, 8 << 10} {
		const runs, each = 100, 9
		d := f.bookmarks().Draft("orders", runs*each, int64(runs*each*size))
		var run [each]buffer.Message
		var origins [each]buffer.Origin
		body := make([]byte, size)
		for n := range runs {
			copy(body, fmt.Sprint(n))
			for j := range run {
				origins[j] = buffer.Origin{Offset: int64(len(want)), Time: f.now}
				run[j] = buffer.Message{Method: "POST", Target: "/", Key: fmt.Sprint(len(want)), Body: body, Origin: &origins[j]}
				want = append(want, uint64(len(want)))
			}
			d.Add(run[:])
		}
		mark := buffer.Bookmark{Part: "a", At: fmt.Sprint(i)}
		a, err := d.AppendFrom(context.Background(), f.now, "kafka", []buffer.Bookmark{mark})
		if err != nil || a.Count != runs*each || a.First != uint64(len(want)-a.Count) {
			f.Fatalf("AppendFrom of a draft of %d messages = %+v, %v", runs*each, a, err)
		}
		f.wantBookmarks("kafka", mark.Part, mark.At)
		for n, got := range f.wantTake("mail", runs*each+1, want[a.First:]...) {
			text := fmt.Sprint(n / each)
			if text = text[:min(len(text), size)]; got.Message.Origin.Offset != int64(a.First)+int64(n) || !strings.HasPrefix(string(got.Message.Body), text) || len(got.Message.Body) != size {
				f.Fatalf("message %d of a draft is %q of %+v", n, got.Message.Body, got.Message.Origin)
			}
		}
	}
	refused := f.bookmarks().Draft("nothing", 1, 1)
	refused.Add([]buffer.Message{small(0)})
	_, err := refused.AppendFrom(context.Background(), f.now, "kafka", pairs([]string{"a", "99"}))
	f.wantErr("AppendFrom of a draft to no stream", err, buffer.ErrNoStream)
	f.wantBookmarks("kafka", "a", "2")
	if _, err := f.bookmarks().Draft("orders", 0, 0).AppendFrom(context.Background(), f.now, "kafka", pairs([]string{"a", "3"})); err != nil {
		f.Fatalf("AppendFrom of an empty draft: %v", err)
	}
	f.wantBookmarks("kafka", "a", "3")
}

func bookmarksRefused(f *fixture) {
	ctx := context.Background()
	for _, source := range []string{"", "kafka"} {
		if _, err := f.bookmarks().AppendFrom(ctx, "orders", f.now, []buffer.Message{small(0)}, source, pairs([]string{"", "1"})); err == nil {
			f.Fatalf("AppendFrom(%q) with a bookmark of no part was taken", source)
		}
	}
	_, err := f.bookmarks().AppendFrom(ctx, "nothing", f.now, []buffer.Message{small(0)}, "kafka", pairs([]string{"a", "1"}))
	f.wantErr("AppendFrom to no stream", err, buffer.ErrNoStream)
	f.wantBookmarks("kafka")
	f.wantTake("mail", 9)
}

func bookmarksFull(f *fixture) {
	f.from("kafka", []buffer.Message{small(0)}, "a", "1")
	for n := 0; appendNoise(f, n) == nil; n++ {
	}
	_, err := f.bookmarks().AppendFrom(context.Background(), "orders", f.now, []buffer.Message{{Body: noise(99, 32<<10)}}, "kafka", pairs([]string{"a", "2"}))
	f.wantErr("AppendFrom to a full stream", err, buffer.ErrBufferFull)
	f.wantBookmarks("kafka", "a", "1")
	f.from("kafka", nil, "a", "5") // without messages nothing has to fit
	f.wantBookmarks("kafka", "a", "5")
}

// bookmarksReopened: through several segments.
func bookmarksReopened(f *fixture, crash bool) {
	for n := range 5 {
		f.from("kafka", []buffer.Message{{Body: noise(uint64(n), 900<<10)}}, "a", fmt.Sprint(n), fmt.Sprint("part ", n), strings.Repeat("x", 1000))
	}
	f.from("kafka", nil, "part 0", "", "b", "later")
	f.from("gone", nil, "a", "1")
	if err := f.bookmarks().KeepBookmarks(context.Background(), []string{"kafka"}); err != nil {
		f.Fatalf("KeepBookmarks: %v", err)
	}
	check := func() {
		f.Helper()
		want := []string{"a", "4", "b", "later"}
		for n := 1; n < 5; n++ {
			want = append(want, fmt.Sprint("part ", n), strings.Repeat("x", 1000))
		}
		f.wantBookmarks("kafka", want...)
		f.wantBookmarks("gone")
	}
	check()
	f.reopen(crash)
	check()
	f.from("kafka", []buffer.Message{small(0)}, "a", "5", "b", "")
	f.reopen(crash)
	f.from("kafka", nil, "a", "4", "b", "later")
	check()
}
