package demo

import (
	"crypto/sha256"
	"fmt"
	"strings"
)

// sheet is what both ways came to. It is made of counts alone.
type sheet struct {
	orders        int
	with, without outcome

	intact     int // orders that the service took byte for byte, behind Forebay
	invented   int // bodies that it took and nobody sent
	duplicates int // times that it took an order again
}

func newSheet(o orders, with, without outcome) sheet {
	s := sheet{orders: o.n, with: with, without: without}
	sent := make(map[[sha256.Size]byte]bool, o.n)
	for i := range o.n {
		sent[sha256.Sum256(o.body(i))] = true
	}
	for sum, times := range with.saw.taken {
		if !sent[sum] {
			s.invented++
			continue
		}
		s.intact++
		s.duplicates += times - 1
	}
	return s
}

// check is one line under the sheet: something that has to hold.
type check struct {
	ok   bool
	text string
}

func (s sheet) checks() []check {
	b := s.with.books
	return []check{
		{s.with.failed == 0 && b.Accepted == uint64(s.orders), fmt.Sprintf("every order was accepted: %s of %s", thousands(int(b.Accepted)), thousands(s.orders))},
		{s.intact == s.orders && s.invented == 0, fmt.Sprintf("every order arrived byte for byte: %s of %s", thousands(s.intact), thousands(s.orders))},
		{float64(s.with.saw.peak) <= s.with.limit, fmt.Sprintf("never over the service's limit: %s/s at most, limit %s", thousands(s.with.saw.peak), perSecond(s.with.limit))},
		{b.balanced && b.Imbalance == 0 && b.Buffered == 0, "the ledger, re-counted from disk, balances"},
	}
}

func (s sheet) holds() bool {
	for _, c := range s.checks() {
		if !c.ok {
			return false
		}
	}
	return true
}

func (s sheet) print(sc *screen) {
	b := s.with.books
	sc.say("\n  %s", sc.bold("Balance sheet"))
	rule := sc.dim(strings.Repeat("─", 34))
	sc.say("     %s", rule)
	row := func(label string, n int) { sc.say("     %-17s %9s orders", label, thousands(n)) }
	row("accepted", int(b.Accepted))
	row("  delivered", int(b.Delivered))
	row("  expired", int(b.Expired))
	row("  cancelled", int(b.Cancelled))
	row("  dead", int(b.Dead))
	row("  buffered", int(b.Buffered))
	sc.say("     %s", rule)
	row("imbalance", int(b.Imbalance))
	row("duplicates", s.duplicates)

	sc.say("\n  %s", sc.bold("The same burst, the same service"))
	compare := func(label, without, with string) { sc.say("     %-26s %16s %16s", label, without, with) }
	sc.say("     %s", sc.dim(fmt.Sprintf("%-26s %16s %16s", "", "without Forebay", "with Forebay")))
	compare("orders taken", thousands(len(s.without.saw.taken)), thousands(len(s.with.saw.taken)))
	compare("orders lost", thousands(s.orders-len(s.without.saw.taken)), thousands(s.orders-s.intact))
	compare("callers answered within", seconds(s.without.took), seconds(s.with.took))
	compare("most in any one second", thousands(s.without.saw.peak)+"/s", thousands(s.with.saw.peak)+"/s")
	compare("the service's limit", perSecond(s.without.limit), perSecond(s.with.limit))
	compare("503 from the service", thousands(s.without.saw.refused), thousands(s.with.saw.refused))
	sc.say("")
	for _, c := range s.checks() {
		mark := sc.green("✓")
		if !c.ok {
			mark = sc.red("✗")
		}
		sc.say("  %s  %s", mark, c.text)
	}
	if s.with.why != "" {
		sc.say("  %s  first refusal: %s", sc.red("✗"), s.with.why)
	}
	sc.say("")
}
