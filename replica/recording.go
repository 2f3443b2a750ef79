package replica

import (
	"context"
	"slices"
	"time"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/store"
)

const (
	pieceTurns = 120 // of a recording: 30 s of a small fleet, some 10 kB in etcd
	mostPieces = 480 // of one release: four hours; what comes later is not kept
	mostTapes  = 200 // releases whose readings are kept at a time: beyond, etcd has better things to do
	mostTurns  = 3 * pieceTurns
)

// tape collects what was read and judged in a release until it is written. It is owned by Deciding.Run.
type tape struct {
	service  string
	piece    policy.Recording
	accepted int64 // the document that the newest turn was judged by
	written  int   // pieces so far
	ended    bool  // nothing comes any more
}

// prepare begins the tape of a release before its first turn is judged: what the judge starts with belongs to the recording. Only the leader's readings are whole, so
// only they are kept.
func (d *Deciding) prepare(t *track, s *policy.Served) {
	if d.lead == nil || t.tape != nil && t.tape.piece.Release == s.Release.ID {
		return
	}
	d.endTape(t)
	if len(d.tapes) < mostTapes {
		t.tape = &tape{service: s.Service.Name, piece: policy.Recording{Release: s.Release.ID, Before: encode(t.evidence)}}
		d.tapes = append(d.tapes, t.tape)
	}
}

// endTape has what is left of a tape written.
func (d *Deciding) endTape(t *track) {
	if t.tape != nil {
		t.tape.ended = true
		t.tape = nil
	}
}

// record adds a turn to a release's tape.
func (t *tape) record(s *policy.Served, turn policy.TurnRecord) {
	if t == nil || t.written >= mostPieces {
		return
	}
	switch {
	case len(t.piece.Turns) == 0:
		t.piece.Service, t.piece.Live, t.piece.Candidate = s.Service, s.Live.Ref, s.Release.Candidate.Ref
	case s.Accepted != t.accepted:
		turn.Service = &s.Service
	}
	t.accepted = s.Accepted
	if len(t.piece.Turns) == mostTurns {
		// etcd has not answered for a minute. What begins a piece must stay; of the rest the newest is worth most.
		t.piece.Turns = t.piece.Turns[:0]
		t.piece.Lost += mostTurns
		t.record(s, turn)
		return
	}
	t.piece.Turns = append(t.piece.Turns, turn)
}

// writeTapes writes the pieces that are full, and those of releases that have ended. It leaves an etcd alone that has just not answered.
func (d *Deciding) writeTapes(ctx context.Context, now time.Time) {
	for _, t := range d.tapes {
		if now.Before(d.lead.stalled) {
			return
		}
		if len(t.piece.Turns) >= pieceTurns || t.ended && len(t.piece.Turns) > 0 {
			d.writeTape(ctx, t)
		}
	}
	d.tapes = slices.DeleteFunc(d.tapes, func(t *tape) bool { return t.ended && len(t.piece.Turns) == 0 })
}

// endTapes writes what is left at the end of a term, as far as there is time. The next leader begins tapes of its own.
func (d *Deciding) endTapes(ctx context.Context) {
	short, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for _, t := range d.tapes {
		if len(t.piece.Turns) > 0 && short.Err() == nil {
			d.writeTape(short, t)
		}
	}
	for _, t := range d.tracks {
		t.tape = nil
	}
	d.tapes = nil
}

// writeTape writes what a tape holds. What cannot be packed is dropped: a recording is worth no trouble to the release.
func (d *Deciding) writeTape(ctx context.Context, t *tape) {
	short, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	data, err := t.piece.Encode()
	if err == nil {
		from := time.UnixMilli(t.piece.Turns[0].At)
		err = d.store.SaveReadings(short, store.Recorded{Service: t.service, Release: t.piece.Release, From: from}, data)
	}
	if err != nil {
		d.log.Warn("readings could not be kept", "service", t.service, "release", t.piece.Release, "err", err)
		d.lead.stall(d.config.Now(), err)
	}
	if err != nil && data != nil {
		return // again later, unless they become too many
	}
	t.written++
	t.piece.Turns, t.piece.Before, t.piece.Lost = nil, nil, 0
	if t.written > 1 {
		return
	}
	if err := d.store.TrimReadings(short, t.service); err != nil {
		d.log.Warn("old readings stay for now", "service", t.service, "err", err)
	}
}
