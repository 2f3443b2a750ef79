package policy

import (
	"encoding/json"
	"fmt"
	"math"
	"time"

	"github.com/rampart-proxy/rampart/policy/judge"
)

// enough is how many candidate requests must have finished at a weight before it can be called healthy.
const enough = 20

// Evidence is what the judge has accumulated about one release. It is owned by the deciding half; its JSON is the value of evidence/<service>.
type Evidence struct {
	Release string        `json:"release"`
	Errors  *judge.Errors `json:"errors"`
	Guard   *judge.Guard  `json:"guard"`
	Seen    *judge.Seen   `json:"seen"`
	Latest  Judgement     `json:"latest"`
	Rates   Rates         `json:"rates"`

	unrest time.Duration // what is left of the time in which share seen says nothing, after an incident of live
	weight Weight
	recent meter
}

// Rates is what the arms got lately, per second over the last seconds, for display.
type Rates struct {
	Live            float64 `json:"live"` // requests finished per second
	LiveErrors      float64 `json:"liveErrors"`
	Candidate       float64 `json:"candidate"`
	CandidateErrors float64 `json:"candidateErrors"`
}

// NewEvidence starts from nothing. The analysis must have its defaults.
func NewEvidence(release string, a Analysis) *Evidence {
	return &Evidence{Release: release, Errors: judge.NewErrors(settingsOf(a)), Guard: &judge.Guard{}, Seen: judge.NewSeen(seenSettings(a))}
}

// seenSettings gives share seen a tenth of the release's risk.
func seenSettings(a Analysis) judge.SeenSettings {
	return judge.SeenSettings{Alpha: float64(*a.FalseRollback) / 10}
}

func settingsOf(a Analysis) judge.Settings {
	settings := judge.Settings{Alpha: float64(*a.FalseRollback), Ratio: a.Errors.Ratio, Points: float64(a.Errors.Points)}
	if a.Limits.Errors != nil {
		settings.Limit = float64(*a.Limits.Errors)
	}
	return settings
}

// LoadEvidence reads what a leader stored. It fails on anything but the evidence of this release, and then the judge starts anew.
func LoadEvidence(data []byte, release string, a Analysis) (*Evidence, error) {
	e := NewEvidence(release, a)
	if err := json.Unmarshal(data, e); err != nil {
		return nil, fmt.Errorf("read the evidence of %s: %w", release, err)
	}
	if e.Release != release {
		return nil, fmt.Errorf("read the evidence of %s: it is of %s", release, e.Release)
	}
	return e, nil
}

// Take weighs one turn's reading of a running release and returns what it comes to.
func (e *Evidence) Take(reading Reading, s *Served) Judgement {
	r := s.Release
	e.Errors.Judge(settingsOf(s.Service.Analysis))
	e.Seen.Judge(seenSettings(s.Service.Analysis))
	e.recent.add(reading)
	e.Rates = e.recent.rates()
	if r.Weight == 0 {
		e.weight = 0
		e.Errors.Observe(judged(reading.Live), reading.Interval)
		e.Latest = Judgement{Reason: "live is being observed", Lacks: "live to be observed"}
		return e.Latest
	}
	turn := judge.Turn{
		Length: reading.Interval, Share: r.Weight.Share(), NewStep: r.Weight != e.weight,
		Live: judged(reading.Live), Candidate: judged(reading.Candidate), Warming: warming(s),
	}
	e.weight = r.Weight
	e.Errors.Turn(turn)
	found := e.Errors.Evidence()
	trip, tripped := e.Guard.Turn(turn, found.Phi, found.Level)
	e.calm(found.Incident || ailing(found), turn.Length)
	cut := e.cutOff(reading, turn)
	e.Latest = e.judgement(s, found, reading)
	switch {
	case tripped:
		e.Latest.Guarded = true
		e.Latest.convict(fmt.Sprintf("errors: %s %s (%d of %d) in %s, %s healthy (guard rail)",
			r.Candidate.Backend, percent(trip.Bad, trip.Finished), trip.Bad, trip.Finished, brief(trip.Window), s.Live.Backend))
	case cut:
		e.Latest.convict(shareText(r, e.Seen.Evidence()))
	}
	return e.Latest
}

// cutOff asks whether the candidate gets far less traffic than its weight says: its proxies ejected it, or cannot reach it.
func (e *Evidence) cutOff(reading Reading, turn judge.Turn) bool {
	t := judge.SeenTurn{
		Length: turn.Length, Share: turn.Share, Steady: !turn.NewStep && e.unrest == 0,
		Fleet: judge.Issued{Live: reading.SteadyLive.Issued, Candidate: reading.SteadyCandidate.Issued},
	}
	for _, p := range reading.Proxies {
		t.Proxies = append(t.Proxies, judge.ProxyIssued{Proxy: p.Proxy, Issued: judge.Issued{Live: p.Live, Candidate: p.Candidate}, Steady: p.Steady})
	}
	e.Seen.Turn(t)
	return e.Seen.Evidence().Convicted
}

// shareText says who sends the candidate too little.
func shareText(r *Release, found judge.SeenEvidence) string {
	who, they := "proxies send", "they"
	if found.Proxy != "" {
		who, they = found.Proxy+" sends", "it"
	}
	return fmt.Sprintf("share seen: %s %s far less than its %s (%.0f tries where about %.0f were due); %s cannot reach it",
		who, r.Candidate.Backend, r.Weight, found.Got, found.Expected, they)
}

// shaken is how long after an incident of live share seen says nothing. In an incident Envoys eject the endpoints of both sides, for half a minute each time, and
// live's may be back seconds before the candidate's: it gets little then, and is not to blame. A candidate that is really cut off does not climb meanwhile.
const shaken = time.Minute

// ailing reports whether live fails enough to have endpoints of its own ejected, at traffic too low to call it an incident: three errors eject one.
func ailing(found judge.Evidence) bool {
	live := found.RecentLive
	return live.Bad >= 3 && float64(live.Bad) > found.Level*float64(live.Good+live.Bad)
}

// calm counts down the time after an incident.
func (e *Evidence) calm(incident bool, length time.Duration) {
	e.unrest = max(0, e.unrest-length)
	if incident {
		e.unrest = shaken
	}
}

// warming reports whether only the guard rail counts: within the plan's warm-up, at its first step.
func warming(s *Served) bool {
	r, plan := s.Release, s.Service.Plan
	return r.Mode == ByPlan && r.begins(plan) && (r.Phase == Shifting || r.InPhase < plan.Warmup.Std())
}

func (j *Judgement) convict(reason string) {
	j.Verdict, j.Reason, j.Lacks = Unhealthy, reason, ""
}

// judgement puts the judge's numbers into words and a verdict: healthy needs enough requests, no report missing, no incident and evidence below the square
// root of its limit, against live and against the operator's limit.
func (e *Evidence) judgement(s *Served, found judge.Evidence, reading Reading) Judgement {
	j := Judgement{Reason: comparison(s, found), Incident: found.Incident, Log: found.Log, Numbers: numbers(found)}
	if found.Convicted {
		j.convict(j.Reason)
		return j
	}
	switch {
	case found.StepCandidate.Good+found.StepCandidate.Bad < enough:
		j.Lacks = fmt.Sprintf("%d finished requests to %s at this weight", enough, s.Release.Candidate.Backend)
	case reading.Missing > 0:
		j.Lacks = "reports from every proxy"
	case reading.Unsettled:
		j.Lacks = "the first whole report after a change of endpoints"
	case found.Incident:
		j.Lacks = fmt.Sprintf("%s's own errors to pass (an incident of both)", s.Live.Backend)
	case found.Log >= found.Limit/2:
		j.Lacks = "the evidence to become clear"
	case found.LogLimit >= found.Limit/2:
		j.Lacks = fmt.Sprintf("%s's errors to be clear of their limit of %s", s.Release.Candidate.Backend, *s.Service.Analysis.Limits.Errors)
	default:
		j.Verdict = Healthy
	}
	return j
}

// comparison is the reason in the operator's words.
func comparison(s *Served, found judge.Evidence) string {
	live, candidate := found.StepLive, found.StepCandidate
	log := found.Log
	if found.Convicted {
		live, candidate, log = found.RecentLive, found.RecentCandidate, found.LogMax
	}
	text := fmt.Sprintf("errors: %s against %s; evidence %s : 1, limit %s : 1",
		armText(s.Release.Candidate.Backend, candidate), armText(s.Live.Backend, live), odds(log), odds(found.Limit))
	if found.By == "limit" {
		text = fmt.Sprintf("errors: %s, above its limit of %s; evidence %s : 1", armText(s.Release.Candidate.Backend, candidate),
			*s.Service.Analysis.Limits.Errors, odds(found.LimitMax))
	}
	return text
}

func armText(name string, c judge.Counts) string {
	return fmt.Sprintf("%s %s (%d of %d)", name, percent(c.Bad, c.Good+c.Bad), c.Bad, c.Good+c.Bad)
}

func numbers(found judge.Evidence) map[string]float64 {
	return map[string]float64{
		"log": found.Log, "logMax": found.LogMax, "logLimit": found.LogLimit, "limit": found.Limit, "phi": found.Phi,
		"stepCandidate": float64(found.StepCandidate.Good + found.StepCandidate.Bad), "stepCandidateErrors": float64(found.StepCandidate.Bad),
		"stepLive": float64(found.StepLive.Good + found.StepLive.Bad), "stepLiveErrors": float64(found.StepLive.Bad),
		"candidate": float64(found.Candidate.Good + found.Candidate.Bad), "candidateErrors": float64(found.Candidate.Bad),
	}
}

func judged(c Counts) judge.Counts { return judge.Counts{Good: c.OK, Bad: c.Errors} }

// percent prints a share with two significant digits, or "no requests".
func percent(part, whole uint64) string {
	if whole == 0 {
		return "no requests"
	}
	share := 100 * float64(part) / float64(whole)
	if share >= 99.5 {
		return fmt.Sprintf("%.0f %%", share) // two digits would make it 1e+02
	}
	return fmt.Sprintf("%.2g %%", share)
}

// odds prints e^log as people read it: "0.3", "41,000".
func odds(log float64) string {
	value := math.Exp(min(log, 50))
	if value < 10 {
		return fmt.Sprintf("%.1f", value)
	}
	scale := math.Pow(10, math.Floor(math.Log10(value))-1)
	return grouped(math.Round(value/scale) * scale)
}

// grouped writes a whole number with commas between thousands.
func grouped(value float64) string {
	digits := fmt.Sprintf("%.0f", value)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

func brief(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

// meter keeps the readings of the last few seconds, for display only.
type meter struct {
	turns [meterTurns]Reading
	at    int
}

const meterTurns = 12

func (m *meter) add(r Reading) {
	m.turns[m.at%meterTurns] = r
	m.at++
}

func (m *meter) rates() Rates {
	var live, candidate Counts
	var length time.Duration
	for _, r := range m.turns {
		live, candidate, length = live.Add(r.Live), candidate.Add(r.Candidate), length+r.Interval
	}
	if length <= 0 {
		return Rates{}
	}
	perSecond := func(n uint64) float64 { return float64(n) / length.Seconds() }
	return Rates{
		Live: perSecond(live.Finished()), LiveErrors: perSecond(live.Errors),
		Candidate: perSecond(candidate.Finished()), CandidateErrors: perSecond(candidate.Errors),
	}
}
