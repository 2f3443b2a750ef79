package xdsbench

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/rampart-proxy/rampart/store"
	"github.com/rampart-proxy/rampart/testenv/fleet"
)

// Churn is what it cost that one endpoint of a backend of many came or went all the time.
type Churn struct {
	Services  int           `json:"services"`
	Proxies   int           `json:"proxies"`
	Endpoints int           `json:"endpoints"` // of the backend that changed
	Load      string        `json:"load"`      // of the machine when it began
	Took      time.Duration `json:"took"`      // from the first put to the last
	Puts      int           `json:"puts"`
	Responses float64       `json:"responses"` // of endpoints, per proxy and put
	Bytes     int64         `json:"bytes"`     // of all responses, per proxy and put
	CPU       time.Duration `json:"cpu"`       // of the server per put, until the last proxy had the last change
	Behind    time.Duration `json:"behind"`    // from the last put until the last response has come
}

const (
	changeEvery = 10 * time.Millisecond
	changes     = 500
)

// RunChurn has endpoints change through the documents, as an operator's own discovery would, with the first fleet in the first world.
func RunChurn(ctx context.Context, c Config) (churn Churn, err error) {
	churn = Churn{Services: c.Services[0], Proxies: c.Proxies[0], Endpoints: c.Endpoints, Load: loadOf()}
	r, err := startRampart(ctx, c.Self, c.Folder, churn.Services)
	if err != nil {
		return churn, err
	}
	defer func() { err = errors.Join(err, r.stop()) }()
	if _, err := r.serve(ctx); err != nil {
		return churn, err
	}
	t := trial{Config: c, rampart: r, cell: Cell{Proxies: churn.Proxies}}
	of := subject{name: "rampart", xds: r.xds, pid: func() int { return r.proc.Pid() }}
	err = t.with(ctx, of, func(ctx context.Context, b *bench) error {
		b.fleet.Connect(0)
		wait, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		if _, err := b.fleet.Settled(wait); err != nil {
			return err
		}
		if err := r.change(ctx, c.Endpoints, 0); err != nil {
			return err
		}
		if _, err := b.quiet(ctx, int64(b.n)); err != nil {
			return err
		}
		return b.churn(ctx, r, &churn)
	})
	return churn, err
}

// churn measures the changes.
func (b *bench) churn(ctx context.Context, r *rampart, to *Churn) error {
	before := b.fleet.Counts()
	cpu, err := cpuOf(b.of.pid())
	if err != nil {
		return err
	}
	tick := time.NewTicker(changeEvery)
	defer tick.Stop()
	began := time.Now()
	for to.Puts < changes {
		<-tick.C
		to.Puts++
		if err := r.change(ctx, to.Endpoints, to.Puts); err != nil {
			return err
		}
	}
	last := time.Now()
	ended, err := b.quiet(ctx, before.Responses[fleet.Endpoints]+int64(b.n))
	if err != nil {
		return err
	}
	used, err := cpuOf(b.of.pid())
	after, per := b.fleet.Counts(), int64(b.n*to.Puts)
	to.Took, to.Behind, to.CPU = last.Sub(began), max(0, ended.Sub(last)), (used-cpu)/time.Duration(to.Puts)
	to.Responses = float64(after.Responses[fleet.Endpoints]-before.Responses[fleet.Endpoints]) / float64(per)
	to.Bytes = (after.ResponseBytes - before.ResponseBytes) / per
	return err
}

// quiet waits until so many responses of endpoints have come in all, and then none for a second, and returns when the last one came.
func (b *bench) quiet(ctx context.Context, atLeast int64) (last time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	seen, last := int64(-1), time.Now()
	for time.Since(last) < time.Second || seen < atLeast {
		if now := b.fleet.Counts().Responses[fleet.Endpoints]; now != seen {
			seen, last = now, time.Now()
		}
		if err := sleep(ctx, 5*time.Millisecond); err != nil {
			return last, fmt.Errorf("%d of at least %d responses of endpoints have come: %w", seen, atLeast, err)
		}
	}
	return last, nil
}

// change puts the document with so many live endpoints, of which the last one is another each time.
func (r *rampart) change(ctx context.Context, endpoints, nth int) error {
	list := make([]string, endpoints)
	for i := range list {
		list[i] = fmt.Sprintf("%q", fmt.Sprintf("127.1.%d.%d:7001", i/250, 1+i%250))
	}
	list[endpoints-1] = fmt.Sprintf("%q", fmt.Sprintf("127.2.%d.%d:7001", nth/250, 1+nth%250))
	text := strings.Replace(document(shop, live, "v1"), `"127.0.0.1:7001", "127.0.0.1:7002"`, strings.Join(list, ", "), 1)
	if _, err := r.client.Put(ctx, store.Key(store.ServiceDoc, shop), text); err != nil {
		return fmt.Errorf("change endpoints: %w", err)
	}
	return nil
}
