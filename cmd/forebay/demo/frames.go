package demo

import (
	"fmt"
	"time"
)

// straightFrame is the burst at the bare service.
func (d *demo) straightFrame(b *burst) frame {
	s := d.screen
	taken, failed := int(b.ok.Load()), int(b.failed.Load())
	n := float64(d.orders.n)
	return frame{
		lines: []string{
			s.meter("taken", float64(taken)/n, s.green, thousands(taken)+" orders"),
			s.meter("lost", float64(failed)/n, s.red, thousands(failed)+" orders turned away"),
		},
		plain: fmt.Sprintf("     taken %s, turned away %s orders", thousands(taken), thousands(failed)),
	}
}

// drainFrame is the burst and the drain, side by side in time.
func (d *demo) drainFrame(v view) frame {
	s := d.screen
	n := float64(v.orders)
	permitted := v.permitted
	eta := "nothing waits"
	switch {
	case v.done():
		eta = "all done"
	case v.backlog > 0:
		eta = "no estimate yet"
	}
	if left := v.eta.Sub(v.at); v.backlog > 0 && left > 0 {
		eta = "empty in " + seconds(left)
	}
	out := fmt.Sprintf("%s of %s permitted", perSecond(v.out), perSecond(permitted))
	return frame{
		lines: []string{
			s.meter("accepted", float64(v.accepted)/n, s.blue, fmt.Sprintf("%s of %s orders", thousands(v.accepted), thousands(v.orders))),
			s.meter("backlog", float64(v.backlog)/n, s.blue, fmt.Sprintf("%s orders", thousands(v.backlog))),
			s.meter("delivered", float64(v.delivered)/n, s.green, fmt.Sprintf("%s orders", thousands(v.delivered))),
			s.meter("rate out", ratio(v.out, permitted), s.green, out),
			s.dim(fmt.Sprintf("     %-9s %s in, %s, %s since the first order", "", perSecond(v.in), eta, seconds(v.since))),
		},
		plain: fmt.Sprintf("     %6s  backlog %s  in %s  out %s  %s",
			seconds(v.since.Round(100*time.Millisecond)), thousands(v.backlog), perSecond(v.in), out, eta),
	}
}

func ratio(a, b float64) float64 {
	if b <= 0 {
		return 0
	}
	return a / b
}
