package replica

import (
	"context"
	"time"

	"github.com/rampart-proxy/rampart/store"
)

// campaign stands for election, one term after the other. It begins when all that is in etcd was seen: a leader that knows of no release yet would not
// notice that overlays have expired before its term, and would go on at a weight that proxies no longer have.
func (d *Deciding) campaign(ctx context.Context, elected chan<- *store.Leadership, over <-chan struct{}) {
	select {
	case <-ctx.Done():
		return
	case <-d.serving.seen:
	}
	candidate := store.Candidate{ID: d.config.ID, TTL: d.config.LeaderTTL, LeaseFile: d.config.LeaseFile}
	for ctx.Err() == nil {
		proof, err := d.elect(ctx, candidate)
		if err != nil {
			d.log.Debug("not elected", "err", err)
			sleep(ctx, time.Second)
			continue
		}
		select {
		case elected <- proof:
		case <-ctx.Done():
			d.decline(proof)
			return
		}
		<-over // which comes when ctx has ended, too, but after what there is to hand over
	}
}

// elect waits to be elected. A term goes on when ctx has ended, until the leader resigns: what it leaves to the next one it may write only as long as it leads.
func (d *Deciding) elect(ctx context.Context, candidate store.Candidate) (*store.Leadership, error) {
	term, end := context.WithCancel(context.WithoutCancel(ctx))
	goOn := context.AfterFunc(ctx, end)
	proof, err := d.store.Campaign(term, candidate)
	if err != nil {
		end()
		return nil, err
	}
	if !goOn() {
		return nil, ctx.Err()
	}
	return proof, nil
}

// decline gives up a term that nobody will lead in.
func (d *Deciding) decline(proof *store.Leadership) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := proof.Resign(ctx); err != nil {
		d.log.Warn("could not resign; the lease will run out", "err", err)
	}
}
