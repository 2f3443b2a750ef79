package replica

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/rampart-proxy/rampart/store"
)

// documentsFor is how long a turn goes on with services of which no release runs: those of which one does come first, and must not be judged late.
const documentsFor = turnEvery / 10

// decideAll decides about the running releases and then about what has changed, as far as there is time. It reports whether this term may go on.
func (d *Deciding) decideAll(ctx context.Context, w work, in turnInput) bool {
	d.lead.see(d.serving.revision())
	for _, name := range w.running {
		if !d.decide(ctx, name, in) {
			return false
		}
		delete(w.dirty, name)
	}
	names, together := slices.Sorted(maps.Keys(w.dirty)), together{d: d, in: in}
	for i, name := range names {
		if i%store.MaxWrites == 0 {
			d.meet(names[i:min(i+store.MaxWrites, len(names))])
		}
		if d.config.Now().Sub(in.now) > documentsFor {
			w.gateways = false
			d.serving.putBack(w)
			poke(d.serving.wake)
			break
		}
		delete(w.dirty, name)
		if save, due := d.think(ctx, name, in); due && !together.add(ctx, save) {
			return false
		}
	}
	return together.save(ctx)
}

// together are decisions about documents that are saved in one transaction: thousands may come at once. What was decided first counts for those after it.
type together struct {
	d     *Deciding
	in    turnInput
	saves []store.Save
	bytes int // roughly
}

// manyBytes is how much of documents goes into one transaction, which etcd takes up to 1.5 MB of. What is served of a document is up to three times as long.
const manyBytes = 128 << 10

// add saves a decision with those before it, if not at once then with the next. It reports whether this term may go on.
func (g *together) add(ctx context.Context, save store.Save) bool {
	g.saves = append(g.saves, save)
	g.bytes += g.d.serving.documentSize(save.Name)
	g.d.lead.claim(save)
	if g.d.lead.alone > 0 || save.CreatePermit != "" || len(g.saves) == store.MaxSaves || g.bytes > manyBytes {
		return g.save(ctx)
	}
	return true
}

// save saves what was added. If one of the decisions has become stale, all are taken anew, and saved one by one.
func (g *together) save(ctx context.Context) bool {
	saves, d := g.saves, g.d
	g.saves, g.bytes = nil, 0
	if len(saves) == 0 {
		return true
	}
	d.lead.alone = max(0, d.lead.alone-len(saves))
	short, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	revision, err := d.store.SaveAll(short, d.lead.proof, saves)
	if err == nil {
		for _, save := range saves {
			d.kept(save, revision, g.in.now)
		}
		return true
	}
	for _, save := range saves {
		delete(d.lead.unseen, save.Name)
		d.serving.again(save.Name)
	}
	if len(saves) > 1 {
		d.lead.alone = len(saves)
	} else if errors.Is(err, store.ErrStale) {
		d.track(saves[0].Name).stale++
	}
	return d.saved(saves[0].Name, err)
}
