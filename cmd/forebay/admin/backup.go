package admin

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"time"
)

// Backup is a copy of the buffer that is about to be written.
type Backup struct {
	Bytes int64 // that Write writes
	Write func(context.Context, io.Writer) error
	Close func() // lets go of what was held for it
}

// backupStall is how long a caller may take none of a backup.
const backupStall = time.Minute

// backup streams one. Where it fails half-way the connection is cut, so that nobody
// takes what came for all of it.
func backup(log *slog.Logger, begin func(context.Context, Act) (Backup, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a, err := readAct(r)
		if err != nil {
			writeError(w, r, log, err)
			return
		}
		b, err := begin(r.Context(), a)
		if err != nil {
			writeError(w, r, log, err)
			return
		}
		defer b.Close()
		control := http.NewResponseController(w)
		// The listener's own, which is for requests, would end a long answer too.
		_ = control.SetReadDeadline(time.Time{}) // where it cannot be set there is none
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Length", strconv.FormatInt(b.Bytes, 10))
		begun := time.Now()
		if err := b.Write(r.Context(), patient{w, control}); err != nil {
			log.Error("backup was cut off", "err", err)
			panic(http.ErrAbortHandler)
		}
		log.Info("backup was written", "bytes", b.Bytes, "took", time.Since(begun).Round(time.Millisecond))
	})
}

// patient writes for as long as somebody reads.
type patient struct {
	w       io.Writer
	control *http.ResponseController
}

func (p patient) Write(b []byte) (int, error) {
	_ = p.control.SetWriteDeadline(time.Now().Add(backupStall)) // where it cannot be set there is none
	return p.w.Write(b)
}
