// Package app wires the parts into one process and owns their lives: it opens
// them in order, says when they are ready, replaces the policy while they run,
// and closes them in reverse.
//
// It holds no policy and no protocol of its own. It can be started several
// times in one process; nothing in it is global.
package app
