// Package demo is the main job on one screen: real orders arrive in one burst
// at a service that cannot take them, once straight and once through Forebay,
// and a balance sheet says what became of each.
//
// Nothing in it is simulated but the order service itself: the program's own
// listeners, buffer, drains and admin API run in this process, on free ports
// and with a data directory of their own, and every figure on the sheet is
// counted in the run that prints it.
package demo
