// Package dashboards has Forebay's dashboards for Grafana, and its recording and alert
// rules for Prometheus.
//
// The dashboards are built here, from panels that say what they ask and in which unit,
// and committed as JSON, so that nobody needs the builder. Every selector takes the job
// and the instance of the dashboard's variables, every rate the interval that fits the
// scrapes. test/promcheck holds them to a real Prometheus that scraped a real Forebay.
package dashboards

//go:generate go run ./generate
