package simulation

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/rampart-proxy/rampart/policy"
)

// Question is what a forecast is asked for.
type Question struct {
	Whole                     // the document and its traffic; Releases 0: as many as take about half a minute, 200 at most
	Tell  func(done, all int) // called from several goroutines as releases end; all may fall once, when it is known how long they last. nil is nobody
}

const (
	mostReleases  = 200
	fewReleases   = 20
	affordable    = 800_000 * time.Second // of simulated time, all regressions together
	pilotReleases = 8                     // tell how long releases last
)

// Forecast is what the plan and the analysis of a document would come to.
type Forecast struct {
	Candidate   string       `json:"candidate"`
	Live        string       `json:"live"`
	Releases    int          `json:"releases"` // of each kind
	Limit       Seconds      `json:"limitSeconds"`
	Healthy     Course       `json:"healthy"` // of candidates that are as good as live
	Peers       []Theirs     `json:"peers"`   // the same, by the rules of others
	Regressions []Forecasted `json:"regressions"`
}

// Seconds is a time that JSON has in seconds.
type Seconds time.Duration

// MarshalJSON writes seconds, and null for what is never found.
func (s Seconds) MarshalJSON() ([]byte, error) {
	if s >= Seconds(later) {
		return []byte("null"), nil
	}
	return fmt.Appendf(nil, "%.3f", time.Duration(s).Seconds()), nil
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (s *Seconds) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		*s = Seconds(Undetected)
		return nil
	}
	var seconds float64
	if err := json.Unmarshal(data, &seconds); err != nil {
		return fmt.Errorf("read seconds: %w", err)
	}
	*s = Seconds(seconds * float64(time.Second))
	return nil
}

// Std is the time for the standard library.
func (s Seconds) Std() time.Duration { return time.Duration(s) }

// Course is how healthy releases ended.
type Course struct {
	Committed  int     `json:"committed"`
	RolledBack int     `json:"rolledBack"`
	Paused     int     `json:"paused"`
	Unfinished int     `json:"unfinished"`
	Median     Seconds `json:"medianSeconds"`    // of the time to the commit, over all releases; null: fewer than half were committed
	Most       Seconds `json:"p90Seconds"`       // 90 % were committed within this
	Reason     string  `json:"reason,omitempty"` // of the first that was not committed
}

// Theirs is how healthy releases end by somebody else's rule.
type Theirs struct {
	Name       string `json:"name"`
	Text       string `json:"text"`
	RolledBack int    `json:"rolledBack"`
}

// Forecasted is what becomes of one kind of bad candidates.
type Forecasted struct {
	Name  string        `json:"name"`
	From  policy.Weight `json:"from"` // the weight at which it begins; 0: with the first request
	Ours  Found         `json:"rampart"`
	Peers []Found       `json:"peers"` // as Forecast.Peers lists them
}

// Found is what a rule made of candidates that turned bad.
type Found struct {
	Turned   int            `json:"turned"`       // releases that came to it
	Found    int            `json:"found"`        // of them, that were rolled back
	Held     int            `json:"held"`         // of them, that were neither rolled back nor committed
	Delay    Seconds        `json:"delaySeconds"` // median from the onset to the rollback; null: fewer than half were found
	Bad      float64        `json:"bad"`          // requests served badly, mean
	BadError float64        `json:"badError"`     // its standard error; 0 for a single release
	By       map[string]int `json:"by,omitempty"` // what found them
}

// Ask plays everything and sums it up. It ends early, without a forecast, only with ctx.
func (q Question) Ask(ctx context.Context) (Forecast, error) {
	q.Whole = q.Whole.fit()
	kinds := Kinds(q.Service.Plan, q.Baseline)
	peers := Peers(q.Baseline, q.Times, judgesTimes(q.Service.Analysis))
	if err := q.size(ctx, len(kinds)+1); err != nil {
		return Forecast{}, err
	}
	q.count(2 * (len(kinds) + 1) * q.Releases)
	f := Forecast{Candidate: q.Service.Serve, Live: q.Live, Releases: q.Releases, Limit: Seconds(q.Limit)}
	ours, theirs, err := q.kind(ctx, Regression{}, peers)
	if err != nil {
		return Forecast{}, err
	}
	f.Healthy = courseOf(ours)
	for i, p := range peers {
		f.Peers = append(f.Peers, Theirs{Name: p.Name, Text: p.Text, RolledBack: courseOf(theirs[i]).RolledBack})
	}
	for _, k := range kinds {
		ours, theirs, err := q.kind(ctx, k.Regression, peers)
		if err != nil {
			return Forecast{}, err
		}
		row := Forecasted{Name: k.Name, From: k.From, Ours: foundIn(ours)}
		for _, endings := range theirs {
			row.Peers = append(row.Peers, foundIn(endings))
		}
		f.Regressions = append(f.Regressions, row)
	}
	return f, nil
}

// judgesTimes reports whether a document judges times.
func judgesTimes(a policy.Analysis) bool { return !a.Latency.Off || a.Limits.P99 != nil }

// size chooses how many releases of each kind are played, by how long a few healthy ones last in simulated time: not by the machine.
func (q *Question) size(ctx context.Context, kinds int) error {
	if q.Releases > 0 {
		return nil
	}
	pilot := q.Whole
	pilot.Releases = pilotReleases
	endings, err := pilot.Run(ctx)
	if err != nil {
		return err
	}
	length := time.Duration(0)
	for _, e := range endings {
		length += e.At
	}
	fit := int(affordable * pilotReleases / max(1, length) / time.Duration(kinds))
	q.Releases = max(fewReleases, min(mostReleases, fit))
	return nil
}

// count has every release that ends told.
func (q *Question) count(all int) {
	if q.Tell == nil {
		return
	}
	var done atomic.Int64
	q.Progress = func() { q.Tell(int(done.Add(1)), all) }
}

// kind plays one kind of candidates by the document and by the peers.
func (q Question) kind(ctx context.Context, r Regression, peers []Peer) (ours []Ending, theirs [][]Ending, err error) {
	q.Regression = r
	if ours, err = q.Run(ctx); err != nil {
		return nil, nil, err
	}
	theirs, err = q.Beside(ctx, peers)
	return ours, theirs, err
}

// courseOf sums up healthy releases.
func courseOf(endings []Ending) Course {
	c := Course{}
	var times []time.Duration
	for _, e := range endings {
		at := Undetected
		switch e.How {
		case Committed:
			c.Committed++
			at = e.At
		case RolledBack:
			c.RolledBack++
		case Paused:
			c.Paused++
		default:
			c.Unfinished++
		}
		if e.How != Committed && c.Reason == "" {
			c.Reason = e.Reason
		}
		times = append(times, at)
	}
	slices.Sort(times)
	c.Median, c.Most = Seconds(times[len(times)/2]), Seconds(times[(len(times)*9+9)/10-1])
	return c
}

// foundIn sums up releases whose candidates turned bad. Those that ended before do not count.
func foundIn(endings []Ending) Found {
	f := Found{By: map[string]int{}}
	var delays []time.Duration
	var bad []float64
	for _, e := range endings {
		if !e.Turned() {
			continue
		}
		f.Turned++
		delay := Undetected
		switch e.How {
		case RolledBack:
			f.Found++
			f.By[e.By]++
			delay = e.At - e.Onset
		case Paused, Unfinished:
			f.Held++
		}
		delays, bad = append(delays, delay), append(bad, float64(e.Bad))
	}
	if f.Turned > 0 {
		f.Delay = Seconds(median(delays))
		f.Bad, f.BadError = mean(bad)
	}
	if f.Turned == 1 {
		f.BadError = 0
	}
	return f
}
