// Package drain moves messages from the buffer to sinks at the pace that the
// policy allows.
//
// One loop per drain pulls: it asks the core what may leave now, takes as many
// messages as it has tokens and slots, and hands each to a delivery goroutine,
// which settles it with Ack, Release or Bury. The core takes the time as an
// argument and is the same code that answers when a message will leave.
//
// What it promises: attempts at a sink are at most rate × t + burst where they
// are handed to it, over any interval t, across restarts and changes of policy;
// a token is accounted at most 5 ms before its attempt, so that a late timer
// does not lose rate. A message is taken only with token and slot in hand, so
// none is held across the edge of a window, and what waits can be cancelled. A
// change of policy, and an operator's hold, is felt at once by what is queued. A
// sink that is down never buries a message, though deadline and retention may:
// its breaker opens, and single probes find out when it is back.
//
// What waits too long ends by the wall clock. While that is in doubt nothing does.
//
// What it does not promise: exactly-once delivery. An attempt that is cut off
// by a stop or a crash is repeated with the same id. Time between the hand-over
// and the first byte on the wire, such as a slow connect, is the sink's.
package drain
