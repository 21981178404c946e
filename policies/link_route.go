package policies

import "fmt"

// waitFor looks up the drain of the route's stream that callers wait for.
func (l *linker) waitFor(r *routeDraft) {
	if r.waitFor.src == nil {
		return
	}
	l.resolve("drain", r.waitFor)
	r.out.WaitFor = r.waitFor.word
	if d := l.set.Drain(r.waitFor.word); d != nil && r.stream.src != nil && d.Stream != r.stream.word {
		l.fail(r.waitFor.place, "name a drain of the route's stream", "drain %s reads stream %s, not %s", d.Name, d.Stream, r.stream.word)
	}
}

// live looks up the sink of a route that passes requests on.
func (l *linker) live(r *routeDraft) {
	l.resolve("sink", r.sink)
	r.out.Sink = r.sink.word
	if r.sink.word == "" || !l.defined("sink", r.sink.word) {
		return
	}
	if s := l.set.Sink(r.sink.word); s.HTTP == nil && (s.Kafka != nil || s.Elasticsearch != nil || s.WebHDFS != nil) {
		l.fail(r.sink.place, "name an http sink, or use mode: buffer", "mode: %s needs an http sink, and %s is none", r.out.Mode, s.Name)
	}
	if r.out.Mode == ModeOverflow && r.stream.word != "" && l.defined("stream", r.stream.word) {
		l.overflow(r)
	}
}

// overflow reports a stream that cannot keep the order of what passes by it: it
// has to have one drain, to the sink that the route passes to.
func (l *linker) overflow(r *routeDraft) {
	var drains []string
	fits := true
	for _, d := range l.set.Drains {
		if d.Stream == r.stream.word {
			drains = append(drains, d.Name)
			fits = fits && d.Sink == r.sink.word
		}
	}
	if len(drains) == 1 && fits {
		return
	}
	has := "has none"
	if len(drains) > 0 {
		has = "has " + few(drains)
	}
	l.fail(r.stream.place, "give the route a stream of its own, with one drain to that sink",
		"mode: overflow needs a stream with exactly one drain, to sink %s; stream %s %s", r.sink.word, r.stream.word, has)
}

// auth looks up how the route knows its callers.
func (l *linker) auth(r *routeDraft) {
	for _, name := range l.resolveAll("auth entry", r.auth) {
		if a := find(l.set.Auth, name, func(x *Auth) string { return x.Name }); a != nil {
			r.out.Auth = append(r.out.Auth, a)
		}
	}
	if field := r.out.Idempotency.Header; l.set.HoldsKey(field) {
		l.fail(r.idempotency, "name another field", "idempotency keys of route %s would come in %s, which holds callers' keys", r.name.word, field)
	}
}

// stores reports keys of a stream that would be stored though they show who a
// caller is.
func (l *linker) stores(s *streamDraft) {
	for _, parts := range [][]keyPart{s.out.OrderingKey.parts, s.out.CancelKey.parts, s.out.Tenant.parts} {
		for _, p := range parts {
			if l.set.HoldsKey(p.header) {
				l.fail(s.name.place, "name another field, or a place in the body", "stream %s would store %s, which holds callers' keys", s.name.word, p.header)
			}
		}
	}
}

func (l *linker) routes(drafts []routeDraft) {
	var matches []place // of the routes
	for _, r := range drafts {
		l.resolve("stream", r.stream)
		l.waitFor(&r)
		l.live(&r)
		l.auth(&r)
		r.out.Limits = l.resolveAll("limit", r.limits)
		if r.idempotency.src != nil {
			l.set.places[object{"idempotency", r.name.word}] = r.idempotency
		}
		if !r.matches || r.name.word == "" {
			// Half a match ties with what the whole one would not.
			continue
		}
		r.out.Name, r.out.Stream = r.name.word, r.stream.word
		l.set.Routes = append(l.set.Routes, r.out)
		matches = append(matches, r.match)
	}
	var ties []tie
	l.set.router, ties = compile(l.set.Routes)
	l.set.loose = loose(l.set.Routes)
	for _, t := range ties {
		first, second := &l.set.Routes[t.first], &l.set.Routes[t.second]
		l.fail(matches[t.second],
			fmt.Sprintf("%s is at %s; give one of them a longer path, hosts or methods", first.Name, matches[t.first]),
			"routes %s and %s tie: both match %s", first.Name, second.Name, t.request)
	}
}
