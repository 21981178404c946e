package policies

import (
	"net/netip"
	"slices"
)

// metadataAddresses answer with a cloud machine's credentials and are not
// link-local. The link-local one, 169.254.169.254, needs no mention.
var metadataAddresses = []netip.Addr{
	netip.MustParseAddr("fd00:ec2::254"),   // AWS
	netip.MustParseAddr("100.100.100.200"), // Alibaba Cloud
	netip.MustParseAddr("192.0.0.192"),     // Oracle Cloud
}

// MayDial reports whether deliveries may connect to an address: link-local,
// multicast, unspecified and metadata addresses only where the policy allows them.
// It is asked with the address that is about to be dialled, after the name has been
// resolved, so that no name leads around it.
func (h *HTTPSink) MayDial(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	if slices.ContainsFunc(h.AllowAddresses, func(p netip.Prefix) bool { return p.Contains(addr) }) {
		return true
	}
	return addr.IsValid() && !addr.IsLinkLocalUnicast() && !addr.IsMulticast() && !addr.IsUnspecified() &&
		!slices.Contains(metadataAddresses, addr)
}
