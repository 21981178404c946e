package ship

import (
	"crypto/x509"
	"net/http"
	"net/url"
	"time"
)

// Kind says what a line is.
type Kind string

// The kinds of lines, as routes split them.
const (
	Lines  Kind = "lines"
	NDJSON Kind = "ndjson"
)

// Config says what is shipped, where to and how.
type Config struct {
	Patterns  []string // absolute paths, with wildcards as filepath.Match has them
	State     string   // the file that remembers how far everything is
	Rejected  string   // the file for lines that the receiver refuses
	FromEnd   bool     // without a state, files that are there begin at their end
	Once      bool     // end where the files end
	BatchSize int      // bytes of a batch, at most
	BatchWait time.Duration
	MaxLine   int           // bytes; a longer line is sent in pieces
	LineWait  time.Duration // for the end of a line that does not come
	Linger    time.Duration // how long a file that is gone is followed while nothing comes
	Poll      time.Duration // between looks at the files

	Target  *url.URL
	Kind    Kind
	Zstd    bool          // instead of gzip
	Timeout time.Duration // of a request
	Header  http.Header
	KeyFile string         // holds an API key; empty: none is sent
	KeyName string         // the field that it is sent in
	Roots   *x509.CertPool // nil: the system's

	Say func(string) // a line for the operator; called on the goroutine of Run
}

const (
	// atOnce is how many batches are under way, each of a file of its own.
	atOnce = 4
	// maxFiles bounds those that are open.
	maxFiles = 4000
	// headBytes is how much of a file's beginning tells that it is still the same.
	headBytes = 1024
	// rescan is how often names are looked for, in polls.
	rescan = 4
	// farewell is how long requests that are under way have once the end was asked for.
	farewell = 10 * time.Second
)
