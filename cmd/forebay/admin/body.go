package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// member is a field of a body: where its value goes, and what that has to be.
type member struct {
	to    any
	wants string
}

// members are the fields that any act has. They are read by their exact names:
// encoding/json takes REASON for reason, and of two it takes the last.
func (a *Act) members() map[string]member {
	return map[string]member{
		"reason":      {&a.Reason, "a text"},
		"for_seconds": {&a.ForSeconds, "a number of seconds, such as 1200"},
		"rate":        {&a.Rate, "a number of messages a second, a text such as 3000/m, or unlimited"},
		"key":         {&a.Key, "a text"},
		"drain":       {&a.Drain, "the name of a drain"},
		"died_of":     {&a.DiedOf, "a reason such as permanent; leave it out to mean all"},
		"since":       {&a.Since, "a time such as 2027-11-11T00:00:00Z; leave it out to mean all"},
		"ids":         {&a.IDs, "a list of receipt ids; leave it out to mean all"},
		"dry_run":     {&a.DryRun, "true or false"},
	}
}

// read fills in a body's members, if there is a body.
func (a *Act) read(r io.Reader) error {
	body, err := readObject(r)
	if err != nil {
		return err
	}
	known := a.members()
	for _, name := range slices.Sorted(maps.Keys(body)) {
		m, ok := known[name]
		if !ok {
			return Invalid(fmt.Sprintf("there is no field %s; there are %s",
				quoted(name), strings.Join(slices.Sorted(maps.Keys(known)), ", ")))
		}
		if json.Unmarshal(body[name], m.to) != nil {
			return Invalid(fmt.Sprintf("%s is %s, it has to be %s", name, shortened(string(body[name])), m.wants))
		}
	}
	// What selects nothing in particular would act on everything.
	empty := map[string]bool{"ids": len(a.IDs) == 0, "died_of": a.DiedOf == "", "since": a.Since.IsZero()}
	for _, name := range slices.Sorted(maps.Keys(empty)) {
		if body[name] != nil && empty[name] {
			return Invalid(fmt.Sprintf("%s is empty, it has to be %s", name, known[name].wants))
		}
	}
	return nil
}

// readObject reads one JSON object, or nothing.
func readObject(r io.Reader) (map[string]json.RawMessage, error) {
	dec := json.NewDecoder(r)
	if t, err := dec.Token(); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil || t != json.Delim('{') {
		return nil, notAnObject(err)
	}
	body := map[string]json.RawMessage{}
	for dec.More() {
		t, err := dec.Token()
		name, isName := t.(string)
		if err != nil || !isName {
			return nil, notAnObject(err)
		}
		if body[name] != nil {
			return nil, Invalid(fmt.Sprintf("%s is there twice; keep one", quoted(name)))
		}
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return nil, notAnObject(err)
		}
		body[name] = bytes.TrimSpace(raw)
	}
	if _, err := dec.Token(); err != nil { // the closing brace
		return nil, notAnObject(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, Invalid("the body goes on after its JSON object; send one alone")
	}
	return body, nil
}

func notAnObject(err error) error {
	why := ""
	if err != nil {
		why = ": " + strings.TrimPrefix(err.Error(), "json: ")
	}
	return Invalid(`the body is no JSON object such as {"reason":"INC-123"}` + why)
}

func quoted(s string) string { return strconv.Quote(shortened(s)) }

// shortened is what a caller wrote, at a length that fits into a message.
func shortened(s string) string {
	const most = 60
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "…"
	}
	return s
}
