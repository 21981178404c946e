package dashboards

import (
	"encoding/json"
	"fmt"
)

// graph is a panel of lines over time, a third of the page wide.
func graph(title, unit, description string, queries ...query) panel {
	return panel{kind: series, title: title, unit: unit, description: description, width: 8, height: 8, queries: queries}
}

// wide makes a panel take half of the page, full all of it.
func (p panel) wide() panel { p.width = 12; return p }

func (p panel) full() panel { p.width, p.height = 24, 6; return p }

// stacked lays the lines on each other: their sum means something.
func (p panel) stacked() panel { p.stack = true; return p }

// number is one value, a sixth of the page wide. Where there is none it says so.
func number(title, unit, none, description, expr string) panel {
	return panel{
		kind: stat, title: title, unit: unit, none: none, description: description, width: 4, height: 4,
		queries: []query{{expr: expr}}, good: "green", bad: "green", limit: "0",
	}
}

// redFrom makes a number red from a value on.
func (p panel) redFrom(value json.Number) panel { p.bad, p.limit = "red", value; return p }

// redBelow makes a number red below a value.
func (p panel) redBelow(value json.Number) panel { p.good, p.limit = "red", value; return p }

// states shows what was when; 1 is yes.
func states(title, description string, queries ...query) panel {
	return panel{kind: timeline, title: title, unit: "short", description: description, width: 12, height: 8, queries: queries}
}

// list shows labels, one series a line.
func list(title, unit, description string, queries ...query) panel {
	return panel{kind: table, title: title, unit: unit, description: description, width: 8, height: 8, queries: queries}
}

func (p panel) object(id int, at object) object {
	return object{
		"id": id, "type": string(p.kind), "title": p.title, "description": p.description,
		"datasource": source(), "gridPos": at, "targets": p.targets(),
		"fieldConfig": object{"defaults": p.defaults(), "overrides": []object{}},
		"options":     p.options(),
	}
}

func (p panel) targets() []object {
	var targets []object
	for i, q := range p.queries {
		target := object{"refId": fmt.Sprintf("%c", 'A'+i), "datasource": source(), "expr": promql(q.expr), "legendFormat": q.legend}
		switch p.kind {
		case stat, table:
			target["instant"], target["range"] = true, false
		default:
			target["instant"], target["range"] = false, true
		}
		if p.kind == table {
			target["format"] = "table"
		}
		targets = append(targets, target)
	}
	return targets
}

func (p panel) defaults() object {
	d := object{"unit": p.unit, "color": object{"mode": "palette-classic"}}
	switch p.kind {
	case series:
		stacking, fill := "none", 5
		if p.stack {
			stacking, fill = "normal", 40
		}
		d["custom"] = object{
			"drawStyle": "line", "lineWidth": 1, "fillOpacity": fill, "showPoints": "never", "spanNulls": false,
			"stacking": object{"mode": stacking, "group": "A"},
		}
		d["min"] = 0
	case stat:
		steps := []object{{"color": p.good, "value": nil}, {"color": p.bad, "value": p.limit}}
		d["color"] = object{"mode": "thresholds"}
		d["thresholds"] = object{"mode": "absolute", "steps": steps}
		d["noValue"] = p.none
	case timeline:
		d["custom"] = object{"fillOpacity": 70, "lineWidth": 0}
		d["noValue"] = "never"
		d["mappings"] = []object{{"type": "value", "options": object{
			"0": object{"text": "no", "color": "transparent", "index": 0}, "1": object{"text": "yes", "color": "blue", "index": 1},
		}}}
	}
	return d
}

func (p panel) options() object {
	switch p.kind {
	case series:
		return object{
			"legend":  object{"displayMode": "table", "placement": "bottom", "calcs": []string{"lastNotNull", "max"}, "showLegend": true},
			"tooltip": object{"mode": "multi", "sort": "desc"},
		}
	case stat:
		return object{
			"colorMode": "value", "graphMode": "none", "justifyMode": "auto", "textMode": "value",
			"reduceOptions": object{"calcs": []string{"lastNotNull"}, "fields": "", "values": false},
		}
	case timeline:
		return object{
			"alignValue": "left", "mergeValues": true, "rowHeight": 0.8, "showValue": "never",
			"legend": object{"displayMode": "list", "placement": "bottom", "showLegend": false}, "tooltip": object{"mode": "single"},
		}
	default:
		return object{"showHeader": true, "cellHeight": "sm"}
	}
}
