// Package promcheck holds the dashboards and rules to Prometheus' own parser and to a
// real Prometheus that scraped a real Forebay. It is a module of its own, so that
// Forebay's dependencies stay short, and all tests.
package promcheck
