package policies

import (
	"fmt"
	"slices"
	"strings"
)

// object names what a policy defines.
type object struct{ kind, name string }

// linker looks up names and builds the Set.
type linker struct {
	found *findings
	set   *Set
	draft *draft
	names map[string][]string // by kind, in order
	times map[string]*Interval
}

// link compiles a draft. With readable unset a file is missing from it, and a name
// that leads nowhere proves nothing.
func link(d *draft, found *findings, readable bool) *Set {
	l := &linker{
		found: found,
		draft: d,
		set:   &Set{places: make(map[object]place)},
		names: make(map[string][]string),
		times: make(map[string]*Interval, len(d.intervals)),
	}
	for _, iv := range d.intervals {
		l.define("time interval", iv.name)
		l.set.Intervals = append(l.set.Intervals, Interval{Name: iv.name.word, specs: iv.specs})
	}
	for i := range l.set.Intervals {
		l.times[l.set.Intervals[i].Name] = &l.set.Intervals[i]
	}
	for i := range d.sinks {
		s := &d.sinks[i]
		l.define("sink", s.name)
		http := s.http.HTTPSink // a copy, so that the Set does not keep the draft
		s.out.Name, s.out.HTTP = s.name.word, &http
		l.set.Sinks = append(l.set.Sinks, s.out)
	}
	for _, s := range d.streams {
		l.define("stream", s.name)
		s.out.Name = s.name.word
		l.set.Streams = append(l.set.Streams, s.out)
	}
	for i := range d.drains {
		l.define("drain", d.drains[i].name)
	}
	for i := range d.routes {
		l.define("route", d.routes[i].name)
	}
	if !readable {
		return l.set
	}
	for i := range d.drains {
		l.drain(&d.drains[i])
	}
	l.routes(d.routes)
	return l.set
}

// define enters a name, which nothing else of its kind may have.
func (l *linker) define(kind string, name text) {
	if name.word == "" {
		return
	}
	o := object{kind, name.word}
	if first, taken := l.set.places[o]; taken {
		l.fail(name.place, fmt.Sprintf("the first is at %s", first), "two %ss are named %s", kind, name.word)
		return
	}
	l.set.places[o] = name.place
	l.names[kind] = append(l.names[kind], name.word)
	if kind == "time interval" {
		return
	}
	if n := len(l.set.places) - len(l.names["time interval"]); n == maxObjects+1 {
		l.fail(name.place, "", "routes, streams, drains and sinks are more than %d together", maxObjects)
	}
}

func (l *linker) fail(p place, hint, format string, args ...any) {
	l.found.add(p, hint, fmt.Sprintf(format, args...))
}

// resolve reports a name that leads nowhere.
func (l *linker) resolve(kind string, name text) {
	section := strings.ReplaceAll(kind, " ", "_") + "s"
	if name.src == nil || l.defined(kind, name.word) || l.draft.unread[section] {
		return
	}
	hint := suggest(name.word, l.names[kind], "the policy defines")
	if hint == "" {
		hint = fmt.Sprintf("the policy defines no %ss", kind)
	}
	l.fail(name.place, hint, "no %s is named %s", kind, quote(name.word))
}

func (l *linker) defined(kind, name string) bool {
	_, ok := l.set.places[object{kind, name}]
	return ok
}

func (l *linker) drain(d *drainDraft) {
	l.resolve("stream", d.stream)
	l.resolve("sink", d.sink)
	out := Drain{
		Name: d.name.word, Stream: d.stream.word, Sink: d.sink.word,
		Schedule: Schedule{Base: d.schedule.base}, Retry: d.retry,
		Deadline: d.deadline, FromOldest: d.from == fromOldest,
	}
	seen := make(map[string]place)
	for _, e := range d.schedule.entries {
		if first, taken := seen[e.name.word]; taken && e.name.word != "" {
			l.fail(e.name.place, fmt.Sprintf("the first is at %s", first), "two entries of a schedule are named %s", quote(e.name.word))
		}
		seen[e.name.word] = e.name.place
		l.set.places[entryOf(d.name.word, e.name.word)] = e.name.place
		out.Schedule.Entries = append(out.Schedule.Entries, Entry{
			Name: e.name.word, Rate: e.rate,
			During: l.intervals(e.during), Except: l.intervals(e.except),
		})
	}
	l.set.Drains = append(l.set.Drains, out)
}

// entryOf names an entry of a drain's schedule; no name of a drain has a space.
func entryOf(drain, entry string) object { return object{"entry", drain + " " + entry} }

func (l *linker) intervals(names []text) []*Interval {
	var out []*Interval
	for i, name := range names {
		l.resolve("time interval", name)
		if slices.ContainsFunc(names[:i], func(n text) bool { return n.word == name.word }) {
			l.fail(name.place, "remove one", "time interval %s is listed twice", quote(name.word))
		}
		if iv := l.times[name.word]; iv != nil {
			out = append(out, iv)
		}
	}
	return out
}

// waitFor looks up the drain of the route's stream that callers wait for.
func (l *linker) waitFor(r *routeDraft) {
	if r.waitFor.src == nil {
		return
	}
	l.resolve("drain", r.waitFor)
	r.out.WaitFor = r.waitFor.word
	if d := l.set.Drain(r.waitFor.word); d != nil && d.Stream != r.stream.word {
		l.fail(r.waitFor.place, "name a drain of the route's stream", "drain %s reads stream %s, not %s", d.Name, d.Stream, r.stream.word)
	}
}

func (l *linker) routes(drafts []routeDraft) {
	var matches []place // of the routes
	for _, r := range drafts {
		l.resolve("stream", r.stream)
		l.waitFor(&r)
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
	for _, t := range ties {
		first, second := &l.set.Routes[t.first], &l.set.Routes[t.second]
		l.fail(matches[t.second],
			fmt.Sprintf("%s is at %s; give one of them a longer path, hosts or methods", first.Name, matches[t.first]),
			"routes %s and %s tie: both match %s", first.Name, second.Name, t.request)
	}
}
