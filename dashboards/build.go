package dashboards

import (
	"encoding/json"
	"fmt"
	"strings"
)

// dashboard is one page.
type dashboard struct {
	name, title, description string   // the uid is "forebay-" and the name
	variables                []string // labels to choose by, besides job and instance: "label metric"
	rows                     []row
}

type row struct {
	title  string
	panels []panel
}

// panel asks queries and shows what they return.
type panel struct {
	kind               kind
	title, description string
	unit               string
	width, height      int // in Grafana's grid of 24 columns
	queries            []query
	stack              bool
	none               string // what a stat says where there is nothing
	good, bad          string // colors of a stat below its limit, and from there on
	limit              json.Number
}

// kind is a type of panel of Grafana's.
type kind string

const (
	series   kind = "timeseries"
	stat     kind = "stat"
	timeline kind = "state-timeline"
	table    kind = "table"
)

// query is PromQL in which $on stands for the selected jobs and instances.
type query struct{ expr, legend string }

// object is a JSON object. Its keys are sorted when it is written.
type object map[string]any

// Build makes the dashboards, by the names of their files.
func Build() map[string][]byte {
	built := make(map[string][]byte)
	for _, d := range all() {
		text, err := json.MarshalIndent(d.object(), "", "  ")
		if err != nil {
			panic(err) // of maps and strings
		}
		built[d.uid()+".json"] = append(text, '\n')
	}
	return built
}

func all() []dashboard {
	return []dashboard{overview(), streamsAndDrains(), sinksAndSources(), limits(), process()}
}

func (d dashboard) uid() string { return "forebay-" + d.name }

func (d dashboard) object() object {
	return object{
		"uid": d.uid(), "title": "Forebay / " + d.title, "description": d.description,
		"tags": []string{"forebay", "mixin"}, "schemaVersion": 39, "version": 1,
		"editable": false, "graphTooltip": 1, "refresh": "30s", "timezone": "",
		"time":        object{"from": "now-6h", "to": "now"},
		"links":       d.links(),
		"templating":  object{"list": d.templates()},
		"annotations": object{"list": annotations()},
		"panels":      d.panels(),
	}
}

// links lead to the other dashboards, at the same time and with the same variables.
func (d dashboard) links() []object {
	return []object{{
		"type": "dashboards", "title": "Forebay", "tags": []string{"forebay"}, "asDropdown": true,
		"icon": "external link", "keepTime": true, "includeVars": true, "targetBlank": false, "tooltip": "", "url": "",
	}}
}

func source() object { return object{"type": "prometheus", "uid": "${datasource}"} }

func (d dashboard) templates() []object {
	list := []object{
		{"type": "datasource", "name": "datasource", "label": "Data source", "query": "prometheus", "hide": 0, "refresh": 1, "current": object{}},
		choice("job", "label_values(forebay_build_info, job)"),
		choice("instance", `label_values(forebay_build_info{job=~"$job"}, instance)`),
	}
	for _, v := range d.variables {
		label, metric, _ := strings.Cut(v, " ")
		list = append(list, choice(label, fmt.Sprintf("label_values(%s{%s}, %s)", metric, on, label)))
	}
	return list
}

// choice is a variable of which one, several or all values are chosen.
func choice(label, ask string) object {
	return object{
		"type": "query", "name": label, "label": label, "datasource": source(),
		"definition": ask, "query": object{"query": ask, "refId": "variable"},
		"refresh": 2, "sort": 1, "multi": true, "includeAll": true, "allValue": ".+", "hide": 0,
		"current": object{"selected": true, "text": []string{"All"}, "value": []string{"$__all"}},
	}
}

// on selects what the variables say.
const on = `job=~"$job",instance=~"$instance"`

func promql(expr string) string { return strings.ReplaceAll(expr, "$on", on) }

// annotations mark what explains a change of pace: a window and what operators lay on
// last, a reload is a moment.
func annotations() []object {
	mark := func(name, color, expr, title string, valueIsTime bool) object {
		return object{
			"name": name, "datasource": source(), "enable": true, "hide": false, "iconColor": color,
			"expr": promql(expr), "step": "30s", "titleFormat": title, "textFormat": "{{instance}}", "tagKeys": "", "useValueForTime": valueIsTime,
		}
	}
	return []object{
		mark("Reloads", "blue", `forebay_policy_last_reload_success_timestamp_seconds{$on} * 1000`, "policy loaded", true),
		mark("Refused reloads", "red", `forebay_policy_last_reload_successful{$on} == 0`, "policy refused, the running one stays", false),
		mark("Windows", "purple", `forebay_time_interval_active{$on} == 1`, "{{interval}}", false),
		mark("Overrides", "orange", `forebay_drain_override_until_timestamp_seconds{$on} > 0`, "rate of {{drain}} overridden", false),
		mark("Pauses", "yellow", `forebay_drain_paused{$on} == 1`, "{{drain}} paused", false),
	}
}

// panels lays the panels out, row by row, left to right.
func (d dashboard) panels() []object {
	var list []object
	id, y := 0, 0
	next := func() int { id++; return id }
	for _, r := range d.rows {
		list = append(list, object{
			"id": next(), "type": "row", "title": r.title, "collapsed": false, "panels": []object{}, "gridPos": place(0, y, 24, 1),
		})
		y++
		x, tall := 0, 0
		for _, p := range r.panels {
			if x+p.width > 24 {
				x, y, tall = 0, y+tall, 0
			}
			list = append(list, p.object(next(), place(x, y, p.width, p.height)))
			x, tall = x+p.width, max(tall, p.height)
		}
		y += tall
	}
	return list
}

func place(x, y, w, h int) object { return object{"x": x, "y": y, "w": w, "h": h} }
