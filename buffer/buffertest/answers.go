package buffertest

import (
	"bytes"
	"slices"

	"github.com/google/go-cmp/cmp/cmpopts"

	"forebay/buffer"
)

func answerSections() []section {
	return needing(slices.Concat([]section{
		{name: "answers: shown once a message is final", streams: twoDrains(), run: answersShown},
		{name: "answers: of the last attempt alone", needs: []capability{needDeadLetters}, streams: oneDrain(), run: answersReplayed},
	}, afterReopen([]reopening{
		{name: "answers: keeps them", streams: oneDrain(), run: answersReopened},
		{name: "answers: the newest within their bound", needs: []capability{needHousekeep}, streams: answerBound(), run: answersBounded},
	})), needReceipts)
}

// answering is small with a place for the sink's answer.
func answering(n int) buffer.Message {
	msg := small(n)
	msg.KeepAnswer = 1 << 10
	return msg
}

func answer(body string) *buffer.Answer {
	return &buffer.Answer{
		Header: []buffer.Field{{Name: "Content-Type", Value: "text/plain"}, {Name: "X-Tag", Value: "caf\xe9"}, {Name: "X-Tag", Value: ""}},
		Body:   []byte(body),
	}
}

func (f *fixture) ackAnswered(drain string, offset uint64, a *buffer.Answer) {
	f.Buffer.Ack(drain, offset, buffer.Result{At: f.now, Attempts: 1, Status: 201, Answer: a})
}

// wantAnswer compares the answer that the receipt shows of one drain.
func (f *fixture) wantAnswer(offset uint64, drain string, want *buffer.Answer) {
	f.Helper()
	status := f.find(order(offset))
	i := slices.IndexFunc(status.Drains, func(d buffer.DrainStatus) bool { return d.Drain == drain })
	if i < 0 {
		f.Fatalf("offset %d has no drain %s: %+v", offset, drain, status)
	}
	if diff := differ(want, status.Drains[i].Answer, cmpopts.EquateEmpty()); diff != "" {
		f.Fatalf("answer to offset %d, which is %s with %s (-want +got):\n%s", offset, status.Drains[i].State, drain, diff)
	}
}

func answersShown(f *fixture) {
	f.append("orders", answering(0), answering(1), answering(2))
	f.wantTake("mail", 9, 0, 1, 2)
	f.wantAnswer(0, "mail", nil)
	whole := answer("order 7 accepted")
	f.ackAnswered("mail", 0, whole)
	cut := answer(string(bytes.Repeat([]byte("\x00\xff"), 512)))
	cut.Truncated = true
	f.Buffer.Bury("mail", 1, buffer.ReasonPermanent, buffer.Result{At: f.now, Attempts: 1, Status: 422, Answer: cut})
	f.ackAnswered("mail", 2, nil)
	check := func() {
		f.Helper()
		f.wantAnswer(0, "mail", whole)
		f.wantAnswer(1, "mail", cut)
		f.wantAnswer(2, "mail", nil)
		f.wantAnswer(0, "sms", nil)
	}
	check()
	f.settle()
	check()
	f.wantTake("sms", 1, 0)
	other := answer("")
	f.ackAnswered("sms", 0, other)
	f.wantAnswer(0, "sms", other)
	f.wantAnswer(0, "mail", whole)
}

func answersReplayed(f *fixture) {
	f.append("orders", answering(0), answering(1))
	for n, last := range []*buffer.Answer{answer("fine now"), nil} {
		offset := uint64(n)
		f.wantTake("mail", 1, offset)
		refused := answer("refused")
		f.Buffer.Bury("mail", offset, buffer.ReasonPermanent, buffer.Result{At: f.now, Attempts: 1, Status: 422, Answer: refused})
		f.wantAnswer(offset, "mail", refused)
		f.wantReplay(offset)
		f.wantAnswer(offset, "mail", nil) // not final any more
		f.wantTake("mail", 1, offset)
		f.ackAnswered("mail", offset, last)
		f.wantAnswer(offset, "mail", last)
		f.settle()
		f.wantAnswer(offset, "mail", last)
	}
}

// answersReopened has answers in sealed segments too.
func answersReopened(f *fixture, crash bool) {
	const n = 40
	var want []*buffer.Answer
	for i := range n {
		msg := answering(i)
		msg.Body = noise(uint64(i), 64<<10)
		f.append("orders", msg)
		a := answer(string(noise(uint64(1000+i), 500)))
		want = append(want, a)
		f.wantTake("mail", 9, uint64(i))
		f.ackAnswered("mail", uint64(i), a)
	}
	f.settle()
	for range 2 {
		f.reopen(crash)
		for i, a := range want {
			f.wantAnswer(uint64(i), "mail", a)
		}
	}
}

const boundOfAnswers = 256 << 10

// answerBound lets a second stream keep as much as it likes.
func answerBound() []buffer.Stream {
	return []buffer.Stream{
		{Name: "orders", Drains: []string{"mail"}, KeepResultsBytes: boundOfAnswers},
		{Name: "logs", Drains: []string{"archive"}},
	}
}

// answersBounded has four times as much as is kept, in several segments where
// those are small. What is kept is the newest, and the other stream's is not touched.
func answersBounded(f *fixture, crash bool) {
	const n, size = 64, 16 << 10
	f.append("logs", answering(0))
	f.wantTake("archive", 9, 0)
	f.ackAnswered("archive", 0, answer("kept"))
	for i := range uint64(n) {
		msg := answering(int(i))
		msg.Body = noise(i, 64<<10)
		f.append("orders", msg)
		f.wantTake("mail", 9, i)
		f.ackAnswered("mail", i, answer(string(noise(1000+i, size))))
	}
	f.settle()
	f.wantAnswersKept(n, size)
	f.reopen(crash)
	f.wantAnswersKept(n, size)
}

func (f *fixture) wantAnswersKept(n uint64, size int) {
	f.Helper()
	var kept []uint64
	f.eventually("answers are within their bound", func() bool {
		f.Housekeep(f.now)
		kept = nil
		for offset := range n {
			if f.find(order(offset)).Drains[0].Answer != nil {
				kept = append(kept, offset)
			}
		}
		return len(kept)*size <= boundOfAnswers
	})
	// By twos and threes they may go, but not by the half of the bound.
	if want := count(n-uint64(len(kept)), len(kept)); len(kept)*size < boundOfAnswers/2 || !slices.Equal(kept, want) {
		f.Fatalf("answers are kept to offsets %v; want the newest, of %d bytes in all", kept, boundOfAnswers)
	}
	if got := f.find(buffer.Ref{Stream: "logs"}).Drains[0].Answer; got == nil {
		f.Fatal("the answer in another stream is not kept")
	}
}
