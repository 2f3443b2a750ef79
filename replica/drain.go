package replica

import (
	"context"
	"fmt"
	"time"
)

// endIn is how long a replica may take to end. Whoever asks for the end of a process kills it after 10 s or more; the embedded etcd may take 2 of them.
const endIn = 7500 * time.Millisecond

// drain has the proxies go to other replicas, over this time. Without another one they keep what they have, and the sooner this one ends the sooner its successor is there.
func (r *Replica) drain(ctx context.Context, over time.Duration) {
	others := r.deciding.others()
	if others == 0 || over <= 0 {
		return
	}
	r.config.Log.Info("drains", "reason", fmt.Sprintf("its proxies go to %d other replicas within %s", others, over.Round(time.Millisecond)))
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		r.grpc.GracefulStop() // tells every connection at once that it takes no more streams; those there are go on
	}()
	r.xds.Drain(ctx, over)
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
