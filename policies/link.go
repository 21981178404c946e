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
		s.out.Name = s.name.word
		if s.http.URLs != nil {
			http := s.http.HTTPSink // a copy, so that the Set does not keep the draft
			s.out.HTTP = &http
		}
		l.set.Sinks = append(l.set.Sinks, s.out)
	}
	l.callers()
	for _, s := range d.streams {
		l.define("stream", s.name)
		l.stores(&s)
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
	for _, s := range d.sources {
		l.source(s)
	}
	l.routes(d.routes)
	return l.set
}

// callers defines what routes know callers by.
func (l *linker) callers() {
	for _, a := range l.draft.auth {
		l.define("auth entry", a.name)
		a.out.Name = a.name.word
		if k := a.out.APIKey; k != nil && k.Header != "" {
			l.set.keys = append(l.set.keys, k.Header)
		}
		l.set.Auth = append(l.set.Auth, a.out)
	}
	for _, x := range l.draft.limits {
		l.define("limit", x.name)
		x.out.Name = x.name.word
		l.set.Limits = append(l.set.Limits, x.out)
	}
}

// define enters a name, which nothing else of its kind may have.
func (l *linker) define(kind string, name text) {
	if name.word == "" {
		return
	}
	o := object{kind, name.word}
	if first, taken := l.set.places[o]; taken {
		l.fail(name.place, fmt.Sprintf("the first is at %s", first), "two %s are named %s", plural(kind), name.word)
		return
	}
	l.set.places[o] = name.place
	l.names[kind] = append(l.names[kind], name.word)
	counted := []string{"route", "stream", "drain", "sink"}
	if !slices.Contains(counted, kind) {
		return
	}
	n := 0
	for _, kind := range counted {
		n += len(l.names[kind])
	}
	if n == maxObjects+1 {
		l.fail(name.place, "split it over several instances", "routes, streams, drains and sinks are more than %d together", maxObjects)
	}
}

func plural(kind string) string {
	if stem, is := strings.CutSuffix(kind, "y"); is {
		return stem + "ies"
	}
	return kind + "s"
}

// sectionOf is where objects of a kind are defined.
func sectionOf(kind string) string {
	if kind == "auth entry" {
		return "auth"
	}
	return strings.ReplaceAll(plural(kind), " ", "_")
}

func (l *linker) fail(p place, hint, format string, args ...any) {
	l.found.add(p, hint, fmt.Sprintf(format, args...))
}

// resolve reports a name that leads nowhere.
func (l *linker) resolve(kind string, name text) {
	if name.src == nil || l.defined(kind, name.word) || l.draft.unread[sectionOf(kind)] {
		return
	}
	hint := suggest(name.word, l.names[kind], "the policy defines")
	if hint == "" {
		hint = "the policy defines no " + plural(kind)
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
		Deadline: d.deadline, FromOldest: d.from == fromOldest, Weight: d.weight, Priority: d.priority,
	}
	out.Schedule.Floor = d.schedule.floor
	seen := make(map[string]place)
	for _, e := range d.schedule.entries {
		if first, taken := seen[e.name.word]; taken && e.name.word != "" {
			l.fail(e.name.place, fmt.Sprintf("the first is at %s", first), "two entries of a schedule are named %s", quote(e.name.word))
		}
		seen[e.name.word] = e.name.place
		l.set.places[entryOf(d.name.word, e.name.word)] = e.name.place
		out.Schedule.Entries = append(out.Schedule.Entries, Entry{
			Name: e.name.word, Rate: e.rate, Ramp: e.ramp,
			During: l.intervals(e.during), Except: l.intervals(e.except),
		})
	}
	l.set.Drains = append(l.set.Drains, out)
}

func (l *linker) source(s sourceDraft) {
	l.define("source", s.name)
	l.resolve("stream", s.stream)
	s.out.Name, s.out.Stream = s.name.word, s.stream.word
	if k := s.out.Kafka; k != nil && s.out.RefusedTopic != "" && slices.Contains(k.Topics, s.out.RefusedTopic) {
		l.fail(s.name.place, "name a topic that the source does not read", "source %s would read again what it refuses: topic %s", s.name.word, s.out.RefusedTopic)
	}
	l.set.Sources = append(l.set.Sources, s.out)
}

// entryOf names an entry of a drain's schedule; no name of a drain has a space.
func entryOf(drain, entry string) object { return object{"entry", drain + " " + entry} }

// resolveAll looks up a list, which may have no name twice.
func (l *linker) resolveAll(kind string, names []text) (words []string) {
	for i, name := range names {
		l.resolve(kind, name)
		if slices.ContainsFunc(names[:i], func(n text) bool { return n.word == name.word }) {
			l.fail(name.place, "remove one", "%s %s is listed twice", kind, quote(name.word))
		}
		words = append(words, name.word)
	}
	return words
}

func (l *linker) intervals(names []text) []*Interval {
	var out []*Interval
	l.resolveAll("time interval", names)
	for _, name := range names {
		if iv := l.times[name.word]; iv != nil {
			out = append(out, iv)
		}
	}
	return out
}
