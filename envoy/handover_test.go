package envoy

import (
	"testing"
	"time"

	loadstatsv3 "github.com/envoyproxy/go-control-plane/envoy/service/load_stats/v3"

	"github.com/rampart-proxy/rampart/policy"
)

func TestWhatAProxyBringsAlongCountsIfItIsOfThisRelease(t *testing.T) {
	for name, c := range map[string]struct {
		runs, kept time.Duration
		want       uint64
	}{
		"of this release":              {time.Minute, 6 * time.Second, 5},
		"perhaps of the one before":    {5 * time.Second, 6 * time.Second, 0},
		"of a time that nobody trusts": {time.Minute, 16 * time.Second, 0},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t)
			d.c.Want(wantShop())
			d.pass(c.runs)
			stream, err := loadstatsv3.NewLoadReportingServiceClient(d.conn).StreamLoadStats(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			p := &proxy{d: d, node: "edge-1", stream: stream}
			p.send(statsOf("shop/blue", policy.Counts{OK: 9}, c.kept), statsOf("shop/green", policy.Counts{Errors: 5}, c.kept), statsOf("shop/red", policy.Counts{OK: 1}, c.kept))
			same(t, "asked for", p.order().GetClusters(), []string{"shop/blue", "shop/green"})
			got := d.take()
			same(t, "errors", got.Candidate.Errors, c.want)
			same(t, "share seen says nothing of it", got.SteadyLive, policy.Counts{})
			p.report(policy.Counts{OK: 2}, policy.Counts{OK: 1}, 250*time.Millisecond)
			same(t, "what comes after it", d.take().Candidate, policy.Counts{OK: 1})
		})
	}
}

func TestBeforeTheEndProxiesAreToldToCountOnAndToKeepIt(t *testing.T) {
	d := newDesk(t)
	d.c.Want(wantShop())
	p, _ := d.connect("edge-1")
	d.c.Quiet()
	order := p.order()
	same(t, "clusters", order.GetClusters(), []string{"shop/blue", "shop/green"})
	same(t, "interval", order.GetLoadReportingInterval().AsDuration(), time.Hour)
	_, order = d.connect("edge-2")
	same(t, "who comes now", order.GetLoadReportingInterval().AsDuration(), time.Hour)
}
