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
	given, before := -storm, 0 // the first calm is that after the start
	for sleep(ctx, calmEvery) {
		now := r.xds.Connected()
		// Beside 10,000 services those who are connected are still being sent what they asked for when no more of them come.
		if now == before && abs(now-given) >= max(storm, now/10) && r.xds.Count().Pending <= now/10 {
			runtime.GC() // what pools keep outlives one collection
			debug.FreeOSMemory()
			given = now
		}
		before = now
	}
	return nil
}

func abs(n int) int { return max(n, -n) }
