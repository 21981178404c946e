package buffertest

import (
	"slices"

	"forebay/buffer"
)

// answered is a place that holds a sink's answer.
type answered struct {
	drain  string
	offset uint64
	size   int64
}

// keepAnswer gives a place an answer, or none, and takes the oldest away from
// others where the stream has too much of them.
func (d *memDrain) keepAnswer(p *place, offset uint64, a *buffer.Answer) {
	p.answer = a
	s := d.stream
	s.answers = slices.DeleteFunc(s.answers, func(x answered) bool { return x.drain == d.name && x.offset == offset })
	if a != nil {
		s.answers = append(s.answers, answered{d.name, offset, answerSize(a)})
	}
	sum := int64(0)
	for i, x := range slices.Backward(s.answers) {
		if sum += x.size; sum > s.KeepResultsBytes {
			s.forgetAnswers(s.answers[:i+1])
			s.answers = s.answers[i+1:]
			return
		}
	}
}

func (s *memStream) forgetAnswers(list []answered) {
	for _, d := range s.drains {
		for _, x := range list {
			if x.drain == d.name {
				d.place(x.offset).answer = nil
			}
		}
	}
}

// answerSize is what an answer counts against keep_results_bytes here.
func answerSize(a *buffer.Answer) int64 {
	n := len(a.Body)
	for _, f := range a.Header {
		n += len(f.Name) + len(f.Value)
	}
	return int64(n)
}
