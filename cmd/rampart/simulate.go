package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/policy/simulation"
)

// simulateAsked is what `rampart simulate` was asked for: the traffic, and how much of it to play.
type simulateAsked struct {
	service  string
	rate     float64
	errors   policy.Share
	p50, p99 time.Duration
	bursts   float64
	runs     int
	seed     uint64
	limit    time.Duration
	output   format
	given    func(flag string) bool // it was said on the command line or in the environment
}

func newSimulate(a *app) *cobra.Command {
	asked := simulateAsked{errors: 0.001}
	command := &cobra.Command{
		Use: "simulate FILE …", Short: "Tell before a release what its plan would do",
		Long: "Simulate plays releases of a document in drawn traffic, with the judge and the decisions of a real one, and asks no server: how soon a release is committed\n" +
			"that is as good as live, how often it is rolled back all the same, and what is found of releases that are worse: how often, how soon, and how many requests\n" +
			"they serve badly until then. Beside it stands what the rules of Flagger and of Argo Rollouts would do on the same traffic.\n" +
			"FILE is read as by `rampart lint`; - is standard input. Equal questions have equal answers.",
		Example: "  rampart simulate shop.yaml --rate 100 --errors 0.1% --p50 50ms --p99 250ms",
		RunE: func(c *cobra.Command, args []string) error {
			asked.given = c.Flags().Changed
			return a.simulate(c.Context(), args, asked)
		},
	}
	flags := command.Flags()
	flags.StringVar(&asked.service, "service", "", "the service, where the files have several")
	flags.Float64Var(&asked.rate, "rate", 0, "requests per second, of both versions together")
	flags.Var(shareFlag{&asked.errors}, "errors", "share of requests that fail while all is well")
	flags.DurationVar(&asked.p50, "p50", 50*time.Millisecond, "half of the requests take no longer")
	flags.DurationVar(&asked.p99, "p99", 250*time.Millisecond, "99 of 100 requests take no longer")
	flags.Float64Var(&asked.bursts, "bursts", 1, "mean size of the bursts that most errors come in; 1: each comes by itself")
	flags.IntVar(&asked.runs, "runs", 0, "releases of each kind (default: what takes about half a minute, 200 at most)")
	flags.Uint64Var(&asked.seed, "seed", 1, "seed of the traffic")
	flags.DurationVar(&asked.limit, "limit", 0, "a release that lasts longer is left where it is (default: the plan and its patience)")
	outputFlag(command, &asked.output, asTable, asYAML, asJSON)
	return command
}

// shareFlag is a percentage on the command line.
type shareFlag struct{ into *policy.Share }

// String is also called on a zero value, to find out whether there is a default.
func (s shareFlag) String() string {
	if s.into == nil {
		return ""
	}
	return strings.ReplaceAll(s.into.String(), " ", "")
}

func (s shareFlag) Type() string { return "percentage" }

func (s shareFlag) Set(text string) error { return s.into.UnmarshalText([]byte(text)) }

// problem is what is wrong with the traffic, "" for nothing.
func (s simulateAsked) problem() string {
	const most = 1e6
	switch {
	case !s.given("rate"):
		return "say how many requests per second there are, such as --rate 100"
	case !(s.rate > 0 && s.rate <= most):
		return fmt.Sprintf("--rate %g is not above 0 and at most %.0f", s.rate, most)
	case s.errors >= 1:
		return fmt.Sprintf("--errors %s is not below 100%%", shareFlag{&s.errors})
	case s.p50 < time.Millisecond || s.p99 > 2*time.Minute:
		return fmt.Sprintf("--p50 %s and --p99 %s are not from 1ms to 2m", s.p50, s.p99)
	case s.p99 < s.p50:
		return fmt.Sprintf("--p99 %s is below --p50 %s", s.p99, s.p50)
	case !(s.bursts >= 1 && s.bursts <= 1000):
		return fmt.Sprintf("--bursts %g is not from 1 to 1000", s.bursts)
	case s.given("runs") && !(s.runs >= 1 && s.runs <= 1_000_000):
		return fmt.Sprintf("--runs %d is not from 1 to 1000000", s.runs)
	case s.given("limit") && s.limit <= 0:
		return fmt.Sprintf("--limit %s is not above 0", s.limit)
	}
	return ""
}

// simulate answers.
func (a *app) simulate(ctx context.Context, paths []string, asked simulateAsked) error {
	if problem := asked.problem(); problem != "" {
		return usage("simulate: %s", problem)
	}
	service, err := a.simulated(ctx, paths, asked.service)
	if err != nil {
		return err
	}
	q := question(service, asked)
	p := a.newProgress(fmt.Sprintf("simulate %s: %s over %s at %s", service.Name, q.Service.Serve, q.Live, perSecond(asked.rate)))
	q.Tell = p.tell
	forecast, err := p.during(ctx, q.Ask)
	if ctx.Err() != nil {
		return notHere("simulate %s: interrupted", service.Name)
	}
	if err != nil {
		return fmt.Errorf("simulate %s: %w", service.Name, err)
	}
	if asked.output != asTable {
		return a.printValue(asked.output, simulatedValue{Service: service.Name, Traffic: asked.traffic(), Forecast: forecast})
	}
	a.tellForecast(service.Name, forecast, asked)
	return nil
}

// simulated is the document whose release is simulated. What a leader would refuse is refused.
func (a *app) simulated(ctx context.Context, paths []string, name string) (policy.Service, error) {
	docs, err := a.documents(ctx, "simulate", paths)
	if err != nil {
		return policy.Service{}, err
	}
	if problems := slices.Concat(docs.problems, docs.clashes(offlineWorld(docs))); len(problems) > 0 {
		return policy.Service{}, refusal("%s", problemText(problems))
	}
	found := map[string]policy.Service{}
	for _, d := range docs.all {
		if d.Service != nil && (name == "" || d.Name == name) {
			found[d.Name] = d.Service.WithDefaults()
		}
	}
	names := slices.Sorted(maps.Keys(found))
	switch {
	case len(names) == 1:
		return found[names[0]], nil
	case len(names) > 1:
		return policy.Service{}, usage("simulate: there are several services, %s: choose one with --service", listed(names))
	case name != "":
		return policy.Service{}, usage("simulate: there is no document of service %s in %s", clean(name), listed(paths))
	}
	return policy.Service{}, usage("simulate: there is no document of a service in %s", listed(paths))
}

// another is the backend that is released where a document has only one.
const another = "next"

// question is what the document's release is: the wish over any other backend. Which of them is live, no document tells, and the traffic is all that counts.
func question(service policy.Service, asked simulateAsked) simulation.Question {
	candidate := service.Serve
	others := slices.DeleteFunc(slices.Sorted(maps.Keys(service.Backends)), func(name string) bool { return name == candidate })
	live := candidate
	if len(others) > 0 {
		live = others[0]
	} else {
		service.Backends[another] = service.Backends[candidate]
		service.Serve = another
	}
	return simulation.Question{Whole: simulation.Whole{
		Scenario: simulation.Scenario{Rate: asked.rate, Baseline: float64(asked.errors), Burst: asked.bursts, Seed: asked.seed, Limit: asked.limit},
		Times:    simulation.Times{P50: asked.p50, P99: asked.p99},
		Service:  service, Live: live, Releases: asked.runs,
	}}
}

// simulatedValue is the answer for machines.
type simulatedValue struct {
	Service string         `json:"service"`
	Traffic simulatedRates `json:"traffic"`
	simulation.Forecast
}

// simulatedRates is the traffic that was drawn.
type simulatedRates struct {
	Rate   float64            `json:"rate"` // requests per second
	Errors float64            `json:"errors"`
	P50    simulation.Seconds `json:"p50Seconds"`
	P99    simulation.Seconds `json:"p99Seconds"`
	Bursts float64            `json:"bursts"`
	Seed   uint64             `json:"seed"`
}

func (s simulateAsked) traffic() simulatedRates {
	return simulatedRates{s.rate, float64(s.errors), simulation.Seconds(s.p50), simulation.Seconds(s.p99), s.bursts, s.seed}
}
