package replica

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/store"
)

// saveOf writes a decision as one fenced transaction.
func (d *Deciding) saveOf(name string, v service, turn policy.Turn, decision policy.Decision) store.Save {
	save := store.Save{
		Kind: store.ServedService, Name: name,
		NeedPermit: decision.NeedPermit, CreatePermit: decision.CreatePermit, DeletePermit: decision.DeletePermit, DropOrder: decision.DropOrder,
	}
	save.Seen.Served, save.Seen.Wish, save.Seen.Pause, save.Seen.Order = v.servedMod, v.docMod, v.pauseMod, v.orderMod
	if !decision.Delete {
		save.Value = decision.Served
	}
	if t := d.track(name); t.evidence != nil && decision.Served != nil && decision.Served.Release != nil {
		save.Evidence = encode(t.evidence)
	}
	if len(decision.Events) > 0 {
		save.History = line(turn, decision)
	}
	return save
}

// line is one line of history for all that one decision brought about; its numbers are those of the last event that has some.
func line(turn policy.Turn, decision policy.Decision) *store.Line {
	l := &store.Line{Time: turn.Now}
	var texts []string
	for _, e := range decision.Events {
		l.Event = e.Name
		texts = append(texts, e.Name+": "+e.Text)
		if e.Numbers != nil {
			l.Numbers = e.Numbers
		}
	}
	l.Text = strings.Join(texts, "; ")
	if s := decision.Served; s != nil && s.Release != nil {
		l.Release, l.Phase, l.Weight = s.Release.ID, string(s.Release.Phase), int(s.Release.Weight)
	} else if s != nil && s.Last != nil {
		l.Release = s.Last.Release
	}
	return l
}

func encode(value any) []byte {
	data, err := json.Marshal(value)
	if err != nil {
		// Only NaN can do this, and the judge has none; losing the copy is better than losing the decision.
		return nil
	}
	return data
}

const (
	evidenceEvery = time.Second     // so that `watch` is fresh and a new leader loses little
	timesEvery    = 5 * time.Second // elapsed times are saved at least this often
)

func (t *track) timesDue(served *policy.Served, now time.Time) bool {
	return served != nil && served.Release != nil && now.Sub(t.timed) >= timesEvery
}

// save commits a decision and remembers that the watch must bring it before the next. It reports whether this term may go on.
func (d *Deciding) save(ctx context.Context, save store.Save, now time.Time) bool {
	short, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	revision, err := d.store.Save(short, d.lead.proof, save)
	if err != nil {
		d.serving.again(save.Name)
		return d.saved(save.Name, err)
	}
	d.kept(save, revision, now)
	return true
}

// kept notes that a decision was saved.
func (d *Deciding) kept(save store.Save, revision int64, now time.Time) {
	t := d.track(save.Name)
	t.stale = 0
	served, _ := save.Value.(*policy.Served)
	t.after, t.mod, t.served = revision, revision, served
	d.took(save.Name, t, served, revision)
	t.timed, t.stored = now, now
	d.serving.await(revision, d.config.Now())
	d.lead.bridged(served)
	d.said(save)
}

// said writes the audit trail.
func (d *Deciding) said(save store.Save) {
	if save.History == nil {
		return
	}
	h := save.History
	d.log.Info("decided", "service", save.Name, "release", h.Release, "phase", h.Phase, "weight", h.Weight, "reason", h.Text)
	served, _ := save.Value.(*policy.Served)
	d.metrics.decided(save.Name, h, served)
}

// alarm says once that someone must act.
func (d *Deciding) alarm(name, text string) {
	if d.serving.need(name, text) && text != "" {
		d.log.Error("needs a person", "service", name, "reason", text)
	}
}
