package replica

import (
	"context"
	"time"
)

// handOverIn is how long a replica that ends may take to leave to the others what it knows.
const handOverIn = 2 * time.Second

// underWay is how long reports may be under way when proxies are told to send no more.
const underWay = 100 * time.Millisecond

// handOver is the last turn of a replica that ends. It judges by the reports that have come since the turn before, takes back what they convict, in etcd too, and
// leaves the judge's state to the next leader. What the proxies have counted and not reported yet they keep, and report it to whom they connect next. Nobody else may
// turn any more. It returns in time whatever etcd does, and then does not lead any more.
func (d *Deciding) handOver() {
	defer d.resign()
	ctx, cancel := context.WithTimeout(context.Background(), handOverIn)
	defer cancel()
	now := d.config.Now()
	w := d.serving.work()
	if len(w.running) > 0 {
		d.serving.collector.Quiet()
		sleep(ctx, underWay)
		now = d.config.Now()
	}
	if elapsed := now.Sub(d.judged); !d.judged.IsZero() && elapsed > 0 {
		d.judged = now
		d.judge(now, elapsed, w)
	}
	if d.lead != nil {
		for _, name := range w.running {
			d.convict(name)
		}
	}
	d.serving.sweepOnce(ctx)
	if d.lead == nil {
		return
	}
	for _, name := range w.running {
		if now := d.config.Now(); ctx.Err() == nil && !now.Before(d.lead.stalled) {
			d.track(name).stored = time.Time{}
			d.storeEvidence(ctx, name, d.track(name), now)
		}
	}
}
