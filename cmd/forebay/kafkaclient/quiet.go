package kafkaclient

import (
	"log/slog"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/plugin/kslog"
)

const (
	// silence is how long the same is not told again.
	silence = time.Minute
	// maxTold bounds what is remembered of that.
	maxTold = 100
)

// quiet is a log in which a cluster that is away for an hour, or refuses a
// password twice a second, does not drown all else.
type quiet struct {
	log *kslog.Logger

	mu   sync.Mutex
	told map[string]time.Time // guarded by mu; when, by message
}

func newQuiet(log *slog.Logger) *quiet {
	return &quiet{log: kslog.New(log), told: make(map[string]time.Time)}
}

// Level implements kgo.Logger: each request is never told.
func (q *quiet) Level() kgo.LogLevel { return min(q.log.Level(), kgo.LogLevelInfo) }

// Log implements kgo.Logger.
func (q *quiet) Log(level kgo.LogLevel, message string, pairs ...any) {
	quieter := kgo.LogLevelDebug
	if level == kgo.LogLevelError && q.tells(message, time.Now()) {
		quieter = kgo.LogLevelWarn
	}
	q.log.Log(quieter, "kafka: "+message, pairs...)
}

func (q *quiet) tells(message string, now time.Time) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if at, told := q.told[message]; told && now.Sub(at) < silence {
		return false
	}
	if len(q.told) >= maxTold {
		clear(q.told)
	}
	q.told[message] = now
	return true
}
