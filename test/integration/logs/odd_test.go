package logs_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// odd starts agents that do what none should, until stop is called: it returns how often
// each was answered as it has to be.
func (s *site) odd() (stop func() map[string]int) {
	ended := make(chan struct{})
	counts := make(map[string]int)
	var mu sync.Mutex
	var all sync.WaitGroup
	forever := func(name string, do func(n int)) {
		all.Go(func() {
			for n := 0; ; n++ {
				do(n)
				mu.Lock()
				counts[name]++
				mu.Unlock()
				select {
				case <-ended:
					return
				default:
				}
			}
		})
	}
	for _, e := range []encoding{"gzip", "zstd"} {
		bomb := e.pack(s.t, strings.Repeat(strings.Repeat(" ", 9999)+"\n", 10_000))
		forever("bombs", func(int) { s.refused(e, bomb, len(bomb), http.StatusRequestEntityTooLarge) })
	}
	forever("cut", func(n int) {
		whole := encoding("gzip").pack(s.t, text(s.batch(fmt.Sprintf("cut-%d", n), 1)))
		part := whole[:len(whole)*2/3]
		s.refused("gzip", part, len(part), http.StatusBadRequest)
		s.refused("gzip", part, len(whole), 0) // the connection breaks
	})
	// It goes slowly: its lines are to be stored, all others of these not.
	forever("twice", func(n int) {
		if n >= 4 {
			<-ended
			return
		}
		s.twice(fmt.Sprintf("twice-%d", n))
	})
	return func() map[string]int {
		close(ended)
		all.Wait()
		return counts
	}
}

// refused sends what must not be stored.
func (s *site) refused(e encoding, body []byte, size, want int) {
	status, answer := s.send(e, "a-bad-batch", io.MultiReader(bytes.NewReader(body)), size)
	if status != want {
		s.t.Errorf("a body of %d bytes of %d in %s: status %d, want %d: %s", len(body), size, e, status, want, answer)
	}
}

// twice posts a batch as one who heard no answer, though there was one.
func (s *site) twice(name string) {
	d := delivery{encoding: "gzip", name: name, lines: s.batch(name, 1)}
	first, _ := s.post(d)
	second, _ := s.post(d)
	if !second.Duplicate || strings.Join(second.IDs, " ") != strings.Join(first.IDs, " ") {
		s.t.Errorf("batch %s sent again: duplicate %t, the same ids %t", name, second.Duplicate, strings.Join(second.IDs, " ") == strings.Join(first.IDs, " "))
	}
}

// bulk posts documents with ids of the caller's own.
func (s *site) bulk(name string) {
	lines := slices.DeleteFunc(s.batch(name, 1), func(l posted) bool { return l.fault != "" }) // dead letters are told by another id
	var body strings.Builder
	ids := make([]string, len(lines))
	for i, line := range lines {
		ids[i] = fmt.Sprintf("%s/%d", name, i)
		fmt.Fprintf(&body, "{\"create\":{\"_id\":%q}}\n%s\n", ids[i], line.text)
	}
	status, text, err := s.Post("/es/_bulk", "application/x-ndjson", []byte(body.String()))
	var answer struct {
		Errors bool              `json:"errors"`
		Items  []json.RawMessage `json:"items"`
	}
	if err == nil {
		err = json.Unmarshal(text, &answer)
	}
	if err != nil || status != http.StatusOK || answer.Errors || len(answer.Items) != len(lines) {
		s.t.Errorf("_bulk = %d, %v: %.300s", status, err, text)
	}
	s.keep(ids, lines)
}
