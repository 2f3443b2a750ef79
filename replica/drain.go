package replica

import (
	"context"
	"fmt"
	"time"
)

// drain has the proxies go to other replicas. Without another one they keep what they have, and the sooner this one ends the sooner its successor is there.
func (r *Replica) drain(ctx context.Context) {
	others := r.deciding.others()
	if others == 0 || r.config.Drain <= 0 {
		return
	}
	r.config.Log.Info("drains", "reason", fmt.Sprintf("its proxies go to %d other replicas within %s", others, r.config.Drain))
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		r.grpc.GracefulStop() // tells every connection at once that it takes no more streams; those there are go on
	}()
	r.xds.Drain(ctx, r.config.Drain)
	select {
	case <-gone:
	case <-ctx.Done():
	case <-time.After(drainGrace):
	}
}

// drainGrace is how long a replica waits for streams that were told to go: those for reports end with their connections.
const drainGrace = 500 * time.Millisecond

// others counts the other replicas that live.
func (d *Deciding) others() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	count := 0
	for id := range d.reports {
		if id != d.config.ID {
			count++
		}
	}
	return count
}
