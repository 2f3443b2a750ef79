package replica

import (
	"context"
	"runtime"
	"runtime/debug"
	"time"
)

const (
	calmEvery = 5 * time.Second
	storm     = 100 // proxies that came or went at once, or a tenth of all, whichever is more
)

// giveBack returns memory to the system when a storm of connections is over. An Envoy says 60 kB of itself when it comes, so a fleet that comes at once leaves as much
// garbage as it will ever need memory, and Go's collector would keep it for later.
func (r *Replica) giveBack(ctx context.Context) error {
	w := weather{given: -storm} // the first calm is that after the start
	for sleep(ctx, calmEvery) {
		if w.calm(r.xds.Connected(), func() int { return r.xds.Count().Pending }) {
			runtime.GC() // what pools keep outlives one collection
			debug.FreeOSMemory()
		}
	}
	return nil
}

// weather is how many proxies were connected when memory was last given back, and when they were last counted.
type weather struct {
	given, before int
	once          bool // more, because some were still being sent what they asked for
}

// calm takes a count of the proxies, and reports whether a storm is over, and once more when they are counted next: beside 10,000 services those who are connected are still
// being sent what they asked for when no more of them come. Few are pending then, and none that has stopped answering is waited for.
func (w *weather) calm(now int, pending func() int) bool {
	still := now == w.before
	w.before = now
	switch {
	case still && abs(now-w.given) >= max(storm, now/10) && pending() <= now/10:
		w.given, w.once = now, true
		return true
	case still && w.once:
		w.once = false
		return true
	}
	return false
}

func abs(n int) int { return max(n, -n) }
