package xds

import (
	"slices"
	"time"
)

// verdict is a Standing in which all had come as far as was asked. It is good for as long as nothing
// moves in its group, and no TTL can run out.
type verdict struct {
	want     []Requirement
	standing Standing
	since    map[string]time.Time // as MetSince; nil: not asked yet
	moves    moves                // the group's, when it was found
	until    time.Time
}

// asking is what one who asks again asks alike.
type asking struct {
	first, last Requirement
	n           int
}

const maxVerdicts = 1024

// moves counts, by the rank of its type, what may have changed how far a stream has come with it.
type moves [unranked + 1]uint64

func (m *moves) moved(url string) {
	m[rank(url)]++
	if url == ClusterType {
		m[rank(EndpointType)]++ // a cluster that leaves takes its endpoints along
	}
}

func (m *moves) movedAll() {
	for i := range m {
		m[i]++
	}
}

// movedSince reports whether something of what is wanted has moved until then.
func (m *moves) movedSince(then moves, want []Requirement) bool {
	moved := func(url string) bool { return m[rank(url)] != then[rank(url)] }
	return m[unranked] != then[unranked] || slices.ContainsFunc(want, func(w Requirement) bool { return moved(w.Type) || moved(w.Given.Type) })
}

func askingOf(want []Requirement) asking {
	if len(want) == 0 {
		return asking{}
	}
	return asking{first: want[0], last: want[len(want)-1], n: len(want)}
}

// verdictBefore returns what was found when the same was asked before and nothing has moved since,
// nil if that is not known. The caller holds mu.
func (g *group) verdictBefore(want []Requirement, now time.Time) *verdict {
	v := g.verdicts[askingOf(want)]
	if v == nil || v.moves.movedSince(g.moves, want) || !now.Before(v.until) || !slices.Equal(v.want, want) {
		return nil
	}
	return v
}

// remember keeps what was found if all met it. Who asks once a turn for each running release would
// otherwise look at each proxy although none has moved. The caller holds mu.
func (g *group) remember(want []Requirement, found Standing, until time.Time) {
	if found.Met < found.Connected || found.Rejected > 0 {
		return
	}
	v := &verdict{want: slices.Clone(want), standing: found, moves: g.moves, until: until}
	if len(g.verdicts) >= maxVerdicts {
		clear(g.verdicts)
	}
	put(&g.verdicts, askingOf(want), v)
}

// verdictKept bounds how long a verdict is believed.
const verdictKept = 10 * time.Second

func earliest(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
