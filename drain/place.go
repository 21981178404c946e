package drain

import (
	"context"
	"encoding/json"
	"slices"
)

// noter is what a buffer has that keeps notes.
type noter interface {
	Note(ctx context.Context, texts map[string]string) error
	Notes() map[string]string
}

const (
	// placesNote begins the key of the note in which a drain's places are.
	placesNote = "places "
	// maxPlaces bounds them, and maxPlacesText what a note takes of them: a policy that
	// says another place many times between two starts. The oldest go first.
	maxPlaces, maxPlacesText = 8, 1 << 10
)

// places are where messages of the drain have gathered since the last start, the newest last.
func (d *drain) places() (list []string) {
	buf, ok := d.buf.(noter)
	if !ok {
		return nil
	}
	if err := json.Unmarshal([]byte(buf.Notes()[placesNote+d.name]), &list); err != nil {
		return nil // there is none
	}
	return list
}

// notePlaces notes that messages gather in a place, besides others, before they do: after a
// crash the next start looks there too. Where that fails it would not.
func (d *drain) notePlaces(ctx context.Context, place string, others []string) {
	d.known.place = place
	buf, ok := d.buf.(noter)
	list := append(slices.DeleteFunc(others, func(p string) bool { return p == place }), place)
	if !ok || slices.Equal(list, d.places()) {
		return
	}
	list = list[max(0, len(list)-maxPlaces):]
	text, err := json.Marshal(list)
	for ; len(text) > maxPlacesText && len(list) > 1; text, err = json.Marshal(list) {
		list = list[1:]
	}
	if err == nil {
		err = buf.Note(ctx, map[string]string{placesNote + d.name: string(text)})
	}
	if err != nil && ctx.Err() == nil {
		d.log.Warn("after a crash and a change of the policy it will not be known where messages gathered", "drain", d.name, "place", place, "err", err)
	}
}
