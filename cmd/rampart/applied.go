package main

import (
	"context"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/store"
)

// applied is the value of apply: what the documents changed, and what became of them.
type applied struct {
	Command   string            `json:"command"`
	Outcome   ending            `json:"outcome"`
	Text      []string          `json:"text"`               // what a person is told
	Problems  []string          `json:"problems,omitempty"` // what the documents are refused for before any is written
	Documents []appliedDocument `json:"documents"`
}

// appliedDocument is one of them. All but the changes is as last seen.
type appliedDocument struct {
	Service  string          `json:"service,omitempty"`
	Gateway  string          `json:"gateway,omitempty"`
	Outcome  ending          `json:"outcome"`
	Changes  []string        `json:"changes"`
	Warnings []string        `json:"warnings,omitempty"`
	Problems []string        `json:"problems,omitempty"` // what the leader refuses it for
	Revision int64           `json:"revision"`           // etcd mod revision of the document; 0: there is none
	Live     *policy.Ref     `json:"live,omitempty"`
	Release  *policy.Release `json:"release,omitempty"`
	Blocked  *policy.Ref     `json:"blocked,omitempty"` // a wish that was rolled back and is refused
}

// await waits for the leader, and looks once more at what has become of the documents when that is to be a value.
func (r *applying) await(ctx context.Context, s *store.Store, written accepting) error {
	r.outcome = endedStored
	err := r.awaitAccepted(ctx, s, written)
	if err == nil {
		r.outcome = endedAccepted
	}
	if r.format == asTable {
		return err
	}
	now, failed := readWorld(ctx, s)
	if failed != nil {
		return err
	}
	r.now = now
	if err != nil && written.any(refused, now) {
		r.outcome = endedRefused
	}
	return err
}

// refuse notes why none of the documents is written.
func (r *applying) refuse(problems policy.Problems) {
	r.outcome = endedRefused
	for _, p := range problems {
		r.problems = append(r.problems, clean(p.Error()))
	}
}

// result is how the command ended.
func (r *applying) result() applied {
	value := applied{Command: "apply", Outcome: r.outcome, Text: r.text(), Problems: r.problems, Documents: []appliedDocument{}}
	for _, c := range r.changes {
		value.Documents = append(value.Documents, r.document(c))
	}
	return value
}

func (r *applying) document(c change) appliedDocument {
	d := appliedDocument{Changes: append([]string{}, c.words...)}
	d.Outcome, d.Problems = r.fared(c)
	if c.doc.Gateway != nil {
		d.Gateway, d.Revision = c.doc.Name, r.now.gateway(c.doc.Name).doc.Mod
		return d
	}
	v := r.now.service(c.doc.Name)
	d.Service, d.Revision, d.Warnings, d.Release = c.doc.Name, v.doc.Mod, policy.Warnings(*c.doc.Service), v.release()
	if v.served != nil {
		d.Blocked = v.served.Blocked
	}
	if v.served.Serves() {
		d.Live = &v.served.Live.Ref
	}
	return d
}

// fared is the ending of one document, and the leader's objections.
func (r *applying) fared(c change) (ending, []string) {
	switch {
	case c.same():
		return endedIdle, nil
	case r.outcome == endedDry:
		return endedDry, nil
	}
	switch state, problems := c.fate(r.now); state {
	case accepted:
		return endedAccepted, nil
	case refused:
		return endedRefused, problems
	default:
		return endedStored, nil
	}
}
