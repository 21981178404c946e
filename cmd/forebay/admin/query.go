package admin

import (
	"net/http"
	"net/url"
	"strconv"
	"time"

	"forebay/policies"
)

const (
	defaultLimit = 100
	maxLimit     = 1000
	// weekAhead is how far GET /windows looks where nothing is said.
	weekAhead = 7 * 24 * time.Hour
	maxAhead  = 400 * 24 * time.Hour
)

// queries registers what is asked with a query. Every parameter is checked: one
// that is misspelt would otherwise show more than was meant.
func queries(get func(path string, answer func(*http.Request) (any, error)), b Backend) {
	get("/drains/{name}/why", func(r *http.Request) (any, error) {
		q, err := query(r, "message")
		if err != nil {
			return nil, err
		}
		return b.Why(r.PathValue("name"), q.Get("message"))
	})
	get("/streams/{name}/messages", func(r *http.Request) (any, error) { return messages(r, b) })
	get("/events", func(r *http.Request) (any, error) { return events(r, b) })
	get("/windows", func(r *http.Request) (any, error) { return windows(r, b) })
	get("/dead", func(r *http.Request) (any, error) { return dead(r, b) })
	get("/dead/{id}", func(r *http.Request) (any, error) {
		q, err := query(r, "drain")
		if err != nil {
			return nil, err
		}
		return b.DeadShow(r.PathValue("id"), q.Get("drain"))
	})
}

func messages(r *http.Request, b Backend) (any, error) {
	q, err := query(r, "key", "idempotency_key")
	if err != nil {
		return nil, err
	}
	m := MessagesQuery{Stream: r.PathValue("name"), Key: q.Get("key"), IdempotencyKey: q.Get("idempotency_key")}
	if (m.Key == "") == (m.IdempotencyKey == "") {
		return nil, Invalid("one of key and idempotency_key is needed")
	}
	return b.Messages(r.Context(), m)
}

func events(r *http.Request, b Backend) (any, error) {
	q, err := query(r, "since", "limit")
	if err != nil {
		return nil, err
	}
	limit, err := limitOf(q)
	if err != nil {
		return nil, err
	}
	since := q.Get("since")
	after, from, err := sinceOf(since)
	if err != nil {
		return nil, err
	}
	list, err := b.Events(after, from, limit)
	if err != nil {
		return nil, err
	}
	// There is always a next: what happens later comes after it.
	next := strconv.FormatInt(after, 10)
	if !from.IsZero() {
		next = since
	}
	if len(list) > 0 {
		next = strconv.FormatInt(list[len(list)-1].ID, 10)
	} else {
		list = []Event{}
	}
	return Page[Event]{Items: list, Next: &next}, nil
}

// sinceOf reads an id, after which, or a time, from which on.
func sinceOf(s string) (after int64, from time.Time, err error) {
	if s == "" {
		return 0, time.Time{}, nil
	}
	if id, err := strconv.ParseInt(s, 10, 64); err == nil {
		return id, time.Time{}, nil
	}
	if from, err = time.Parse(time.RFC3339, s); err != nil {
		return 0, time.Time{}, Invalid("since is neither an id nor a time such as 2027-11-11T00:00:00Z")
	}
	return 0, from, nil
}

func windows(r *http.Request, b Backend) (any, error) {
	q, err := query(r, "drain", "from", "for")
	if err != nil {
		return nil, err
	}
	w := WindowsQuery{Drain: q.Get("drain"), For: weekAhead}
	if w.From, err = timeOf(q, "from"); err != nil {
		return nil, err
	}
	if s := q.Get("for"); s != "" {
		if w.For, err = policies.ParseDuration(s); err != nil || w.For == 0 || w.For > maxAhead {
			return nil, Invalid("for is not a duration such as 36h or 7d, up to 400d")
		}
	}
	return b.Windows(w)
}

func dead(r *http.Request, b Backend) (any, error) {
	q, err := query(r, "drain", "after", "limit", "died_of", "since")
	if err != nil {
		return nil, err
	}
	sel := Selection{Drain: q.Get("drain"), DiedOf: q.Get("died_of")}
	if sel.Since.Time, err = timeOf(q, "since"); err != nil {
		return nil, err
	}
	limit, err := limitOf(q)
	if err != nil {
		return nil, err
	}
	page, err := b.Dead(sel, DeadPage{After: q.Get("after"), Limit: limit})
	if page.Items == nil {
		page.Items = []Dead{}
	}
	return page, err
}

func timeOf(q url.Values, name string) (time.Time, error) {
	s := q.Get(name)
	if s == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}, Invalid(name + " is not a time such as 2027-11-11T00:00:00Z")
	}
	return t, nil
}

func limitOf(q url.Values) (int, error) {
	s := q.Get("limit")
	if s == "" {
		return defaultLimit, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > maxLimit {
		return 0, Invalid("limit goes from 1 to 1000")
	}
	return n, nil
}

// query is the query of a request that knows these parameters.
func query(r *http.Request, known ...string) (url.Values, error) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, Invalid("the query cannot be read")
	}
	allowed := map[string]bool{}
	for _, name := range known {
		allowed[name] = true
	}
	for name, values := range q {
		if !allowed[name] {
			return nil, Invalid("there is no parameter " + strconv.Quote(name))
		}
		if len(values) > 1 {
			return nil, Invalid(name + " is there twice")
		}
	}
	return q, nil
}
