// Package policies reads the policy files: what may enter, where it waits, when
// and how fast it leaves.
//
// [Load] and [Parse] turn files into a [Set], or into every mistake they hold,
// each with its place and a way to mend it. They are strict: an unknown key, a
// key given twice, a unit left out or a name that leads nowhere is an error. A part
// of the language that this version does not have is read like the rest, so that
// its mistakes show, and refused by name. It is never ignored, since a policy that
// is half in force protects nobody.
//
// Secrets stand outside the files: a [Secret] is what a reference leads to, and
// prints as nothing but that it is one.
//
// A Set is a value. It is immutable and safe for concurrent use; a request or a
// scheduling step loads it once and uses it to the end. Nothing here reads the
// clock: every question about time takes the time as an argument, and answers
// with the instant at which the answer may change.
//
// Calendar rules are about the clock on the wall of their location. On the day
// on which clocks go forward a window inside the skipped hour does not happen;
// on the day on which they go back a window inside the repeated hour happens
// twice.
package policies
