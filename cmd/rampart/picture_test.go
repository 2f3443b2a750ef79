package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/clipperhouse/displaywidth"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/store"
)

const shopYAML = `service: shop
gateways: [edge]
hosts: [shop.example.com]
backends:
  blue: {revision: v41, endpoints: ["127.0.0.1:8001"]}
  green: {revision: v42, endpoints: ["127.0.0.1:8101"]}
serve: green
plan: {steps: [1%, 5%, 25%, 50%, 100%], warmup: 0s, soak: 30s, bake: 1m}
`

func noon() time.Time { return time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC) }

// still is a picture of shop whose release is soaking at 5 %, with everything in order. Tests change what they are about.
func still(t *testing.T) picture {
	t.Helper()
	parsed, err := policy.ParseService("shop.yaml", []byte(shopYAML))
	if err != nil {
		t.Fatal(err)
	}
	document := parsed.WithDefaults()
	served := &policy.Served{
		Service: document, Accepted: 9, Live: policy.Arm{Ref: policy.Ref{Backend: "blue", Revision: "v41"}, Definition: document.Backends["blue"]},
		Release: &policy.Release{
			ID: "green-9", Candidate: policy.Arm{Ref: document.Wish(), Definition: document.Backends["green"]}, Mode: policy.ByPlan,
			Phase: policy.Soaking, Weight: 500, InPhase: 18 * time.Second, Waits: "30s of soaking at 5 %",
		},
	}
	return picture{
		service: &service{
			name: "shop", doc: store.Entry{Value: []byte(shopYAML), Mod: 9}, served: served, servedMod: 10, permits: map[string]bool{"green-9": true},
		},
		evidence: &evidence{
			Release: "green-9", Rates: policy.Rates{Live: 284, LiveErrors: 0.6, Candidate: 15, CandidateErrors: 0.03},
			Latest: policy.Judgement{Verdict: policy.Healthy, Reason: "errors: green 0.2 % (1 of 412) against blue 0.21 % (17 of 7,905); evidence 0.3 : 1, limit 100 : 1"},
		},
		fleet: policy.Fleet{Connected: 3, Ready: 3, Confirmed: 3}, reported: true, led: true, now: noon(),
	}
}

// pictures are the states that why and watch tell apart, by the name of their golden file.
func pictures() map[string]func(p *picture, r *policy.Release) {
	return map[string]func(p *picture, r *policy.Release){
		"soaking": func(*picture, *policy.Release) {},
		"lacking": func(p *picture, r *policy.Release) {
			r.InPhase, r.Waits = 40*time.Second, "20 finished requests to green at this weight"
			r.Unproven = 10 * time.Second
			p.evidence.Latest = policy.Judgement{Reason: "errors: green no requests against blue 0.21 %", Lacks: r.Waits}
		},
		"silent": func(p *picture, r *policy.Release) {
			r.Phase, r.Weight, r.Waits = policy.Shifting, 500, "1 of 3 proxies to accept 5 %"
			p.fleet = policy.Fleet{Connected: 3, Ready: 3, Confirmed: 2, Waiting: []policy.ProxyWords{{Proxy: "edge-2", Version: "Envoy 1.40.0", Silent: 12 * time.Second}}}
		},
		"rejected": func(p *picture, r *policy.Release) {
			r.Phase, r.Weight, r.Waits = policy.Shifting, 500, "2 of 3 proxies to accept 5 % (1 rejected it)"
			p.fleet = policy.Fleet{Connected: 3, Ready: 3, Confirmed: 1, Rejected: 1, Waiting: []policy.ProxyWords{
				{Proxy: "edge-1", Version: "Envoy 1.36.0", Says: "Proto constraint validation failed\x1b[2J"}, {Proxy: "edge-2", Version: "Envoy 1.40.0"},
			}}
		},
		"sampled": func(p *picture, r *policy.Release) {
			p.fleet = policy.Fleet{Connected: 1000, Ready: 1000, Confirmed: 1000, Slow: 869}
		},
		"alone": func(p *picture, r *policy.Release) {
			r.Phase, r.Waits = policy.Shifting, "a proxy to connect"
			p.fleet = policy.Fleet{}
		},
		"gated": func(p *picture, r *policy.Release) {
			r.Phase, r.Weight, r.InPhase, r.Waits = policy.Gated, 0, 0, "green v42 to have endpoints"
		},
		"observing": func(p *picture, r *policy.Release) {
			r.Phase, r.Weight, r.InPhase, r.Waits = policy.Gated, 0, 4*time.Second, "live to be observed for 10s"
		},
		"climb-observing": func(p *picture, r *policy.Release) {
			byEvidence(p)
			r.Phase, r.Weight, r.InPhase, r.Waits = policy.Gated, 0, 4*time.Second, "live to be observed for 10s"
		},
		"climb-step": func(p *picture, r *policy.Release) {
			byEvidence(p)
			r.Weight, r.InPhase, r.Waits = 714, 250*time.Millisecond, "1.5s of soaking at 7.14 %"
			p.evidence.Latest.Excess, p.evidence.Latest.Lacks = 0.4, "20 finished requests to green at this weight"
		},
		"climb-bound": func(p *picture, r *policy.Release) {
			byEvidence(p)
			r.Weight, r.Waits, r.Unproven = 714, "enough evidence for more than 7.14 %", 10*time.Second
			p.evidence.Latest.Excess = 0.312
		},
		"climb-half": func(p *picture, r *policy.Release) {
			byEvidence(p)
			r.Weight, r.Waits = 5000, "evidence that green fails at most 0.5 points more often than the margin allows"
			p.evidence.Latest.Excess = 0.0123
		},
		"climb-unsettling": func(p *picture, r *policy.Release) {
			byEvidence(p)
			r.Weight, r.Waits = 400, "the evidence to become clear"
			p.evidence.Latest.Excess, p.evidence.Latest.Unsettling, p.evidence.Latest.Lacks = 1, true, "the evidence to become clear"
		},
		"paused": func(p *picture, r *policy.Release) {
			p.service.paused, r.Waits = true, "`rampart resume`: paused by an operator"
		},
		"held": func(p *picture, r *policy.Release) {
			r.Held = "too little evidence for 30m: errors: green no requests"
		},
		"baking": func(p *picture, r *policy.Release) {
			r.Phase, r.Weight, r.InPhase = policy.Baking, 9500, 55*time.Second
		},
		"committing": func(p *picture, r *policy.Release) {
			r.Phase, r.Weight, r.Waits = policy.Committing, 9999, "the proxies to accept the new base"
		},
		"taken-back": func(p *picture, r *policy.Release) {
			delete(p.service.permits, "green-9")
		},
		"rolling-back": func(p *picture, r *policy.Release) {
			r.Phase, r.Weight, r.Waits, r.Cause = policy.RollingBack, 0, "1 of 3 proxies to accept weight 0", "errors: green 48 % (61 of 127) in 1.0 s, blue healthy (guard rail)"
			p.fleet.Confirmed = 2
		},
		"unled":      func(p *picture, r *policy.Release) { p.led = false },
		"unanswered": func(p *picture, r *policy.Release) { p.silent = p.now.Add(-12 * time.Second) },
		"alarmed": func(p *picture, r *policy.Release) {
			p.alarms = []string{"its served key is gone; what was served is kept until `rampart adopt`"}
		},
		"rolled-back": ended(policy.RolledBack),
		"committed":   ended(policy.Committed),
		"unserved":    func(p *picture, r *policy.Release) { p.service.served, p.service.servedMod = nil, 0 },
		"unreadable":  func(p *picture, r *policy.Release) { p.service.served = nil },
		"refused":     refusedPicture,
		"first-refused": func(p *picture, r *policy.Release) {
			p.service.served = &policy.Served{Refused: &policy.Refusal{Revision: 9, Problems: []string{"services/shop:1:1: plan.stepz: unknown field; did you mean `steps`?"}}}
		},
	}
}

// byEvidence gives the release of a picture the default plan.
func byEvidence(p *picture) {
	p.service.served.Service.Plan = policy.Service{}.WithDefaults().Plan
	p.service.served.Release.First, p.evidence.Latest.StepRequests = 100, 40
}

func ended(result policy.Result) func(p *picture, r *policy.Release) {
	return func(p *picture, r *policy.Release) {
		s := p.service.served
		last := &policy.Outcome{Release: "green-9", From: s.Live.Ref, To: r.Candidate.Ref, Result: result, Weight: 2500, At: noon().Add(-5 * time.Minute), Reason: "errors: green 48 %"}
		s.Release, s.Last, p.evidence, p.reported, p.fleet = nil, last, nil, false, policy.Fleet{}
		if result == policy.Committed {
			s.Live, last.Reason = r.Candidate, "confirmed by 3 of 3 proxies"
			return
		}
		blocked := r.Candidate.Ref
		s.Blocked = &blocked
		decided := noon().Add(-5 * time.Minute)
		p.lines = []store.Line{
			{Time: decided, Release: "green-9", Event: "rolling back", Text: "rolling back: green v42 at 25 %: errors: green 48 %"},
			{Time: decided, Release: "green-9", Event: "rolled back", Text: "rolled back: green v42: errors: green 48 %; confirmed by 3 of 3 proxies", Numbers: map[string]float64{"lastAckUnixMs": float64(decided.UnixMilli() + 46)}},
		}
	}
}

func refusedPicture(p *picture, r *policy.Release) {
	p.service.doc.Mod = 12
	p.service.served.Refused = &policy.Refusal{Revision: 12, Problems: []string{"services/shop:2:8: hosts: shop.example.com is served by web already"}}
	p.service.served.Release = nil
	p.evidence, p.reported = nil, false
}

func TestWhyAnswersInOneScreen(t *testing.T) {
	for name, change := range pictures() {
		t.Run(name, func(t *testing.T) {
			p := still(t)
			change(&p, p.service.served.Release)
			lines := p.why()
			golden(t, "why-"+name+".golden", strings.Join(lines, "\n")+"\n")
			if len(lines) > 15 {
				t.Errorf("%d lines are not one screen", len(lines))
			}
			if !strings.HasPrefix(lines[0], "shop ") || !strings.HasSuffix(lines[0], ".") {
				t.Errorf("the first line is no answer: %q", lines[0])
			}
		})
	}
}

func TestWatchFitsEveryScreen(t *testing.T) {
	for name, change := range pictures() {
		for _, width := range []int{0, 20, 60, 100, 200} {
			p := still(t)
			change(&p, p.service.served.Release)
			lines := p.view(screen{width: width})
			for _, line := range lines {
				if width > 0 && displaywidth.String(line) > width {
					t.Errorf("%s: %q is wider than %d", name, line, width)
				}
				if strings.ContainsAny(line, "\n\x1b") {
					t.Errorf("%s: %q is no single plain line", name, line)
				}
			}
			if width == 100 {
				golden(t, "watch-"+name+".golden", strings.Join(lines, "\n")+"\n")
			}
		}
	}
}

func TestTimesInAWatchedPhaseGoOnBetweenSaves(t *testing.T) {
	p := still(t)
	p.seen, p.now = noon(), noon().Add(5*time.Second)
	if got := p.phaseText(); got != "soaking at 5 %, 23 s of 30 s" {
		t.Errorf("got %q", got)
	}
	p.service.served.Release.Phase, p.service.served.Release.Waits = policy.Gated, "green v42 to have endpoints"
	if got := p.inPhase(); got != 18*time.Second {
		t.Errorf("the clock of a release that waits stands still, got %s", got)
	}
}

func TestANewPictureIsDrawnOverTheLast(t *testing.T) {
	out := &live{}
	a := &app{streams: streams{out: out, err: out}, screen: screen{live: true}}
	f := newFrame(a)
	p := still(t)
	f.draw(p, nil)
	first := len(p.view(a.screen))
	f.draw(p, nil)
	contains(t, out.String(), "\x1b["+string(rune('0'+first))+"F")
	if strings.Count(out.String(), "\n") != 2*first {
		t.Errorf("a picture has %d lines:\n%q", first, out.String())
	}
}

// DESIGN §9: wait is for the document's own outcome.
func TestTheOutcomeIsOfWhatWasAwaited(t *testing.T) {
	green, blue := policy.Ref{Backend: "green", Revision: "v42"}, policy.Ref{Backend: "blue", Revision: "v41"}
	await := awaited{mod: 9, target: green, known: true}
	for _, c := range []struct {
		name   string
		change func(p *picture, r *policy.Release)
		await  awaited
		over   bool
		ending ending
	}{
		{"a running release is not over", func(*picture, *policy.Release) {}, await, false, endedRunning},
		{"a commit is a yes", ended(policy.Committed), await, true, endedLive},
		{"a rollback is a no", ended(policy.RolledBack), await, true, endedBack},
		{"going back to live is a yes once it is live", func(p *picture, r *policy.Release) {
			p.service.served.Release, p.service.served.Service.Serve = nil, "blue"
		}, awaited{mod: 9, target: blue, known: true}, true, endedLive},
		{"a wish that somebody changed is a no", func(p *picture, r *policy.Release) {
			p.service.served.Release, p.service.served.Service.Serve = nil, "blue"
		}, await, true, endedReplaced},
		{"a refused document is a no at once", refusedPicture, awaited{mod: 12, target: green, known: true}, true, endedRefused},
		{"an earlier refusal does not count", refusedPicture, awaited{mod: 13, target: green, known: true}, false, endedStored},
		{"a document not looked at is waited for", func(*picture, *policy.Release) {}, awaited{mod: 11, target: green, known: true}, false, endedStored},
		{"nothing served yet is waited for", func(p *picture, r *policy.Release) { p.service.served, p.service.servedMod = nil, 0 }, await, false, endedStored},
		{"a deleted service is a no", func(p *picture, r *policy.Release) { *p.service = service{name: "shop"} }, await, true, endedDeleted},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := still(t)
			c.change(&p, p.service.served.Release)
			if got := c.await.outcome(p.service); got.over != c.over || got.ending != c.ending || got.text == "" {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestAnAlarmIsToldToThoseWhomItConcerns(t *testing.T) {
	limit := "streams of edge-1 were ended 79 times, at last for 3 layers: --max-layers"
	reports := map[string]store.Report{
		"a": {Alarms: []string{"shop: its served key is gone", limit, "gateway edge: its document is gone"}},
		"b": {Alarms: []string{"pay: it is stuck", limit, "proxies hold what etcd cluster 7 published"}},
	}
	want := []string{"gateway edge: its document is gone", "its served key is gone", "proxies hold what etcd cluster 7 published", limit}
	if got := alarmsOf(reports, "shop"); !slices.Equal(got, want) {
		t.Errorf("told: %q", got)
	}
	if got := alarmsOf(reports, "cart"); len(got) != 3 {
		t.Errorf("told to a service that nobody names: %q", got)
	}
}
