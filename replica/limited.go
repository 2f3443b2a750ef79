package replica

import (
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/rampart-proxy/rampart/xds"
)

const (
	limitedEvery = 10 * time.Second // between two lines in the log about one limit
	limitedFor   = time.Minute      // how long someone must look at it after the last time
)

// limited is what is known of clients that a limit turns away. They come again at once, so a line for each would fill the log; and who is kept out does not count as a proxy,
// so nothing else would tell of them.
type limited struct {
	log *slog.Logger // fixed

	mu sync.Mutex
	of map[string]*turnedAway // guarded by mu: by limit
}

// turnedAway is what one limit did.
type turnedAway struct {
	last  time.Time
	told  time.Time
	since int    // streams since it was told
	node  string // of the last one that had said who it is
}

func newLimited(log *slog.Logger) *limited { return &limited{log: log, of: map[string]*turnedAway{}} }

// note takes what happened on a stream.
func (l *limited) note(e xds.Event, now time.Time) {
	if e.Kind != xds.LimitExceeded {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.of[e.Limit]
	if t == nil {
		t = &turnedAway{}
		l.of[e.Limit] = t
	}
	t.last = now
	t.since++
	if e.Node != "" {
		t.node = e.Node
	}
	if now.Sub(t.told) < limitedEvery {
		return
	}
	l.log.Warn("streams are ended by a limit", "proxy", t.node, "reason", fmt.Sprintf("%s: %d since this was last said", flagOf(e.Limit), t.since))
	t.told, t.since = now, 0
}

// alarms says which limits turned somebody away lately.
func (l *limited) alarms(now time.Time) (alarms []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for limit, t := range l.of {
		if now.Sub(t.last) >= limitedFor {
			continue
		}
		who := "clients"
		if t.node != "" {
			who = t.node
		}
		alarms = append(alarms, fmt.Sprintf("streams of %s were ended within the last minute: %s (rampart_xds_limited_total tells how many)", who, flagOf(limit)))
	}
	return alarms
}

// limitFlags are the flags of `rampart serve` by limit; of one without a flag, what it is about.
func limitFlags() map[string]string {
	return map[string]string{
		"streams": "--max-streams", "nodestreams": "--max-node-streams", "types": "--max-types", "names": "--max-names", "layers": "--max-layers",
		"requests": "--max-requests", "requestbytes": "--max-request-bytes", "silence": "--max-silence", "reading": "--max-silence, they do not read",
		"namebytes": "names of more than 4 KiB",
	}
}

func flagOf(limit string) string {
	if flag := limitFlags()[limit]; flag != "" {
		return flag
	}
	return limit
}
