// Package drain moves messages from the buffer to sinks at the pace that the
// policy allows.
//
// One loop per drain pulls: it asks the core what may leave now, takes as many
// messages as it has tokens and slots, and hands each to a delivery goroutine,
// which settles it with Ack, Release or Bury. The core takes the time as an
// argument and is the same code that answers when a message will leave.
//
// What it promises: attempts at a sink are at most rate × t + burst, and one
// message and 5 ms of the rate, where they are written, over any interval t, across
// restarts and changes of policy. A token is accounted at most 5 ms before its
// attempt, so that a late timer does not lose rate; where connecting takes longer,
// a second look at the rate keeps what was taken apart from being written together,
// and what may not leave any more by then goes back. A message is taken only with
// token and slot in hand, so none is held across the edge of a window, and what
// waits can be cancelled. A change of policy, and an operator's hold, is felt at
// once by what is queued. A sink that is down never buries a message, though
// deadline and retention may: its breaker opens, and single probes find out when it
// is back. What a sink asks to cancel is cancelled before its answer is recorded.
//
// What waits too long ends by the wall clock. While that is in doubt nothing does.
//
// What it does not promise: exactly-once delivery. An attempt that is cut off
// by a stop or a crash is repeated with the same id. Live requests are not counted
// by that second look: together with a stall of theirs a sink may see more.
package drain
