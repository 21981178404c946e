package policies

import (
	"cmp"
	"maps"
	"slices"
)

// tie is two routes between which no rule decides, and a request that both match.
type tie struct {
	first, second int
	request       string
}

// compile builds the router. Its routes point into the slice.
func compile(routes []Route) (router, []tie) {
	c := compiler{
		router: router{hosts: make(map[string]*paths), any: newPaths()},
		index:  make(map[*Route]int, len(routes)),
		tied:   make(map[[2]int]bool),
	}
	for i := range routes {
		c.index[&routes[i]] = i
		c.add(&routes[i])
	}
	for i := range routes {
		c.rivals(&routes[i])
	}
	slices.Sort(c.lengths)
	c.lengths = slices.Compact(c.lengths)
	slices.Reverse(c.lengths)
	return c.router, c.ties
}

type compiler struct {
	router
	index map[*Route]int
	tied  map[[2]int]bool
	ties  []tie
}

func newPaths() *paths {
	return &paths{exact: make(map[string]*leaf), prefix: make(map[string]*leaf)}
}

func (c *compiler) add(r *Route) {
	c.bulk = c.bulk || r.Split == SplitBulk
	if r.PathPrefix != "" {
		c.lengths = append(c.lengths, len(r.PathPrefix))
	}
	if len(r.Hosts) == 0 {
		c.enter(c.any, r, "")
	}
	for _, host := range r.Hosts {
		if c.hosts[host] == nil {
			c.hosts[host] = newPaths()
		}
		c.enter(c.hosts[host], r, host)
	}
}

// enter files a route under its path; what is there already ties with it.
func (c *compiler) enter(p *paths, r *Route, host string) {
	path, table := r.Path, p.exact
	if r.PathPrefix != "" {
		path, table = r.PathPrefix, p.prefix
	}
	l := table[path]
	if l == nil {
		l = &leaf{methods: make(map[string]*Route)}
		table[path] = l
	}
	if len(r.Methods) == 0 {
		c.meet(l.any, r, "any method", host)
		l.any = cmp.Or(l.any, r)
	}
	for _, m := range r.Methods {
		c.meet(l.methods[m], r, m, host)
		l.methods[m] = cmp.Or(l.methods[m], r)
	}
}

// rivals finds what a host on one side and methods on the other leave undecided:
// one condition each.
func (c *compiler) rivals(r *Route) {
	if len(r.Hosts) == 0 || len(r.Methods) > 0 {
		return
	}
	path, exact := cmp.Or(r.Path, r.PathPrefix), r.Path != ""
	l := c.any.at(path, exact)
	if l == nil {
		return
	}
	for _, m := range slices.Sorted(maps.Keys(l.methods)) {
		for _, host := range r.Hosts {
			// A route for this host and this method would decide.
			if c.hosts[host].at(path, exact).methods[m] == nil {
				c.meet(l.methods[m], r, m, host)
			}
		}
	}
}

// meet records a tie, once for two routes.
func (c *compiler) meet(a, b *Route, method, host string) {
	if a == nil {
		return
	}
	pair := [2]int{min(c.index[a], c.index[b]), max(c.index[a], c.index[b])}
	if c.tied[pair] {
		return
	}
	c.tied[pair] = true
	c.ties = append(c.ties, tie{pair[0], pair[1], method + " " + host + cmp.Or(b.Path, b.PathPrefix)})
}

// shadowed reports whether no request is left to a route: that needs one for its
// prefix itself and one for all below, for each of its hosts and methods.
func (r *router) shadowed(route *Route) bool {
	if route.PathPrefix == "" || route.PathPrefix[len(route.PathPrefix)-1] == '/' {
		return false
	}
	hosts, methods := route.Hosts, route.Methods
	if len(hosts) == 0 {
		hosts = []string{""}
	}
	if len(methods) == 0 {
		methods = []string{""}
	}
	for _, host := range hosts {
		for _, m := range methods {
			if !r.takes(host, m, route.PathPrefix, true) || !r.takes(host, m, route.PathPrefix+"/", false) {
				return false
			}
		}
	}
	return true
}

// takes reports whether a route without fewer conditions is filed for a path; an
// empty host or method stands for any.
func (r *router) takes(host, method, path string, exact bool) bool {
	return r.hosts[host].at(path, exact).route(method) != nil || r.any.at(path, exact).route(method) != nil
}
