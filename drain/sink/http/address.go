package http

import (
	"fmt"
	"net/netip"
	"syscall"

	"forebay/policies"
)

// addressError says that an address is refused.
type addressError struct{ addr netip.Addr }

func (e *addressError) Error() string {
	return fmt.Sprintf("%s is not to be dialled unless allow_addresses lists it", e.addr)
}

// control returns a net.Dialer.Control that refuses link-local and metadata
// addresses. It sees what is about to be dialled, so that a name that resolves
// differently the second time does not get past it.
func control(p policies.HTTPSink) func(network, address string, c syscall.RawConn) error {
	return func(_, address string, _ syscall.RawConn) error {
		ap, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("dial %s: %w", address, err)
		}
		if !p.MayDial(ap.Addr()) {
			return &addressError{ap.Addr()}
		}
		return nil
	}
}
