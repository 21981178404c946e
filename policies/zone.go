package policies

import (
	"strings"
	"time"
)

// zones keeps the locations of one Parse, so that each is read once.
type zones map[string]*time.Location

func newZones() zones { return make(zones) }

// commonZones are what a hint is chosen from; any IANA name is taken.
var commonZones = []string{
	"UTC", "Africa/Cairo", "Africa/Casablanca", "Africa/Johannesburg", "Africa/Lagos", "Africa/Nairobi",
	"America/Bogota", "America/Chicago", "America/Denver", "America/Los_Angeles", "America/Mexico_City",
	"America/New_York", "America/Phoenix", "America/Sao_Paulo", "America/Toronto", "America/Vancouver",
	"Asia/Bangkok", "Asia/Dubai", "Asia/Ho_Chi_Minh", "Asia/Hong_Kong", "Asia/Jakarta", "Asia/Karachi",
	"Asia/Kathmandu", "Asia/Kolkata", "Asia/Manila", "Asia/Riyadh", "Asia/Seoul", "Asia/Shanghai",
	"Asia/Singapore", "Asia/Taipei", "Asia/Tokyo", "Asia/Urumqi", "Australia/Adelaide", "Australia/Brisbane",
	"Australia/Melbourne", "Australia/Perth", "Australia/Sydney", "Europe/Amsterdam", "Europe/Berlin",
	"Europe/Dublin", "Europe/Istanbul", "Europe/Kyiv", "Europe/Lisbon", "Europe/London", "Europe/Madrid",
	"Europe/Moscow", "Europe/Paris", "Europe/Rome", "Europe/Stockholm", "Europe/Vienna", "Europe/Warsaw",
	"Europe/Zurich", "Pacific/Auckland",
}

// zoneCities are abbreviations and cities that people write for a zone.
var zoneCities = map[string]string{
	"beijing": "Asia/Shanghai", "cst": "Asia/Shanghai or America/Chicago", "ist": "Asia/Kolkata",
	"pst": "America/Los_Angeles", "pdt": "America/Los_Angeles", "edt": "America/New_York",
	"bst": "Europe/London", "cest": "Europe/Berlin", "jst": "Asia/Tokyo", "kst": "Asia/Seoul",
	"z": "UTC", "zulu": "UTC",
}

func (v value) location(to **time.Location) {
	s, ok := v.str()
	if !ok {
		return
	}
	if s == "Local" {
		v.fail("write the zone itself, such as Asia/Shanghai or UTC", "location Local makes the policy mean something else on every machine")
		return
	}
	if v.zones[s] == nil {
		loc, err := time.LoadLocation(s)
		if err != nil || s == "" {
			v.fail(zoneHint(s), "%s is not a time zone", quote(s))
			return
		}
		v.zones[s] = loc
	}
	*to = v.zones[s]
}

func zoneHint(s string) string {
	city := s[strings.LastIndex(s, "/")+1:]
	if z := zoneCities[strings.ToLower(city)]; z != "" {
		return "did you mean " + z + "?"
	}
	if z := nearest(s, commonZones); z != "" {
		return "did you mean " + z + "?"
	}
	for _, z := range commonZones {
		if city != "" && strings.EqualFold(z[strings.LastIndex(z, "/")+1:], strings.ReplaceAll(city, " ", "_")) {
			return "did you mean " + z + "?"
		}
	}
	return "use a name of the IANA time zone database, such as Asia/Shanghai or UTC"
}
