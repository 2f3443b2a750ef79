package envoy_test

import (
	"fmt"
	"net/http"
	"time"

	"github.com/rampart-proxy/rampart/envoy"
	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/policy/judge"
	"github.com/rampart-proxy/rampart/testenv"
)

// sees waits until the readings since now add up to what is wanted.
func (r *rig) sees(what string, enough func(policy.Reading) bool) policy.Reading {
	r.t.Helper()
	var sum policy.Reading
	err := testenv.Eventually(r.ctx, func() (bool, error) {
		sum = plus(sum, r.take())
		if !enough(sum) {
			return false, fmt.Errorf("%+v; times %+v; statuses %+v", sum, sum.Times, sum.Statuses)
		}
		return true, nil
	})
	if err != nil {
		r.t.Fatalf("%s: %v", what, err)
	}
	return sum
}

// plus adds up what adds up in readings; of the rest it takes the newest.
func plus(sum, next policy.Reading) policy.Reading {
	next.Live, next.Candidate = sum.Live.Add(next.Live), sum.Candidate.Add(next.Candidate)
	switch {
	case next.Times == nil:
		next.Times = sum.Times
	case sum.Times != nil:
		next.Times.Live.Add(&sum.Times.Live)
		next.Times.Candidate.Add(&sum.Times.Candidate)
	}
	switch {
	case next.Statuses == nil:
		next.Statuses = sum.Statuses
	case sum.Statuses != nil:
		for i := range next.Statuses.Live {
			next.Statuses.Live[i] += sum.Statuses.Live[i]
			next.Statuses.Candidate[i] += sum.Statuses.Candidate[i]
		}
	}
	if next.Quality == nil {
		next.Quality = sum.Quality
	} else {
		for i, q := range sum.Quality {
			to := &next.Quality[i]
			to.Live = judge.Sample{Sum: to.Live.Sum + q.Live.Sum, Count: to.Live.Count + q.Live.Count}
			to.Candidate = judge.Sample{Sum: to.Candidate.Sum + q.Candidate.Sum, Count: to.Candidate.Count + q.Candidate.Count}
		}
	}
	return next
}

// take is the next reading of shop; every proxy is steady.
func (r *rig) take() policy.Reading {
	return r.collector.Take(time.Now(), func(string, string) bool { return true })["shop"]
}

// releases serves shop with a release at half of the traffic, to one Envoy whose statistics have begun to come while live was observed.
func (r *rig) releases(blue, green *model, change func(*policy.Service)) *testenv.Envoy {
	r.t.Helper()
	rest := shopOf(blue, green)
	change(&rest.Service)
	rest.Live.Definition = rest.Service.Backends["blue"]
	return r.observes(rest, func() { _, _ = r.ask("/") })
}

// observes is releases for any service that can be asked.
func (r *rig) observes(rest *policy.Served, ask func()) *testenv.Envoy {
	r.t.Helper()
	r.serve(rest, envoy.State{})
	one := r.envoy("edge-1", asWritten)
	r.serve(releasing(rest, policy.Gated, 0), envoy.State{Permit: true})
	r.confirmed("shop", 1)
	r.sees("statistics of live", func(sum policy.Reading) bool {
		ask()
		return sum.Times != nil
	})
	r.serve(releasing(rest, policy.Shifting, 5000), envoy.State{Permit: true})
	r.confirmed("shop", 1)
	return one
}

// established asks until statistics of both arms have come, so that what comes next counts from there.
func (r *rig) established() {
	r.t.Helper()
	r.sees("statistics of both arms", func(sum policy.Reading) bool {
		if status, body := r.ask("/"); status != http.StatusOK {
			r.t.Fatalf("%d %s", status, body)
		}
		return sum.Times != nil && sum.Times.Live.Total() > 0 && sum.Times.Candidate.Total() > 0
	})
	r.quiet()
}

// quiet waits until statistics have come thrice and nothing new was in anything.
func (r *rig) quiet() {
	r.t.Helper()
	still := 0
	err := testenv.Eventually(r.ctx, func() (bool, error) {
		reading := r.take()
		switch {
		case reading.Live.Issued+reading.Candidate.Issued > 0, reading.Times != nil && reading.Times.Live.Total()+reading.Times.Candidate.Total() > 0:
			still = 0
		case reading.Times != nil:
			still++
		}
		return still >= 3, nil
	})
	if err != nil {
		r.t.Fatal("it is never quiet")
	}
}

// next is the next reading that statistics were in.
func (r *rig) next() (sum policy.Reading) {
	r.t.Helper()
	came := func() (bool, error) {
		reading := r.take()
		sum = plus(sum, reading)
		return reading.Times != nil, nil
	}
	if err := testenv.Eventually(r.ctx, came); err != nil {
		r.t.Fatal("no statistics come")
	}
	return sum
}
