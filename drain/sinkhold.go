package drain

import "time"

// SinkHold is an operator's pause of a sink: neither live requests nor drains
// send anything to it. It ends by itself at Until.
type SinkHold struct {
	Sink   string    `json:"sink"`
	Since  time.Time `json:"since"` // when it was laid on
	Until  time.Time `json:"until"` // zero: until it is lifted
	Reason string    `json:"reason"`
}

// holds reports whether it is there and has not ended.
func (h SinkHold) holds(now time.Time) bool {
	return h.Sink != "" && (h.Until.IsZero() || now.Before(h.Until))
}
