package xdsbench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"github.com/rampart-proxy/rampart/envoy"
	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/store"
	"github.com/rampart-proxy/rampart/testenv"
)

// Real is how long steps took to real Envoys.
type Real struct {
	Services int             `json:"services"`
	Envoys   int             `json:"envoys"`
	Load     string          `json:"load"`
	Steps    []time.Duration `json:"steps"` // from the put to the last ACK, as rampart dates it
}

// RunReal measures steps of a fleet of real Envoys in the first world.
func RunReal(ctx context.Context, c Config) (real Real, err error) {
	real = Real{Services: c.Services[0], Envoys: c.Envoys, Load: loadOf()}
	r, err := startRampart(ctx, c.Self, c.Folder, real.Services)
	if err != nil {
		return real, err
	}
	defer func() { err = errors.Join(err, r.stop()) }()
	if _, err := r.serve(ctx); err != nil {
		return real, err
	}
	envoys, err := c.startEnvoys(ctx, r)
	defer func() {
		for _, e := range envoys {
			if e != nil {
				err = errors.Join(err, e.Kill())
			}
		}
	}()
	if err != nil {
		return real, err
	}
	if err := r.begin(ctx); err != nil {
		return real, err
	}
	for i := range warmUp + max(c.Steps, c.Latency) {
		took, err := r.stepReal(ctx, lowest+i%(highest-lowest), c.Envoys)
		if err != nil {
			return real, err
		}
		if i >= warmUp {
			real.Steps = append(real.Steps, took)
			c.tell("%d real Envoys: step %d: %s", c.Envoys, i+1-warmUp, round(took))
		}
	}
	return real, nil
}

// startEnvoys starts real Envoys, which share the gateway's port, and waits until each serves.
func (c Config) startEnvoys(ctx context.Context, r *rampart) ([]*testenv.Envoy, error) {
	envoys := make([]*testenv.Envoy, c.Envoys)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(4) // more at a time would only wait for one another
	for i := range envoys {
		group.Go(func() error {
			id := fmt.Sprintf("envoy-%d", i)
			text, err := envoy.Bootstrap(envoy.BootstrapConfig{Gateway: gatewayName, ID: id, Servers: []string{r.xds}})
			if err != nil {
				return err
			}
			// It outlives the group's context.
			if envoys[i], err = testenv.StartEnvoy(context.WithoutCancel(ctx), testenv.EnvoyConfig{Bootstrap: text, ID: id, Dir: c.Folder}); err != nil {
				return err
			}
			wait, cancel := context.WithTimeout(ctx, time.Minute)
			defer cancel()
			c.tell("%d real Envoys: %s runs", c.Envoys, id)
			return envoys[i].Ready(wait)
		})
	}
	return envoys, group.Wait()
}

// stepReal makes one step and waits until rampart says that all of a fleet have answered it, and when the last one did.
func (r *rampart) stepReal(ctx context.Context, weight, envoys int) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	s, err := served(ctx, r.client)
	if err != nil {
		return 0, err
	}
	if s.Release == nil {
		return 0, fmt.Errorf("no release runs: %+v", s.Last)
	}
	s.Release.Weight = policy.Weight(weight)
	text, err := json.Marshal(s)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	put, err := r.client.Put(ctx, store.Key(store.ServedService, shop), string(text))
	if err != nil {
		return 0, fmt.Errorf("step: %w", err)
	}
	var last time.Time
	err = testenv.Eventually(ctx, func() (bool, error) {
		report, err := r.report(ctx)
		if err != nil {
			return false, err
		}
		f := report.Releases[shop].Fleet
		last = f.LastAck
		if report.Applied < put.Header.Revision || f.Confirmed < envoys || !last.After(began) {
			return false, fmt.Errorf("%d of %d Envoys have answered", f.Confirmed, envoys)
		}
		return true, nil
	})
	return last.Sub(began), err
}

// report is what the only replica says of its proxies.
func (r *rampart) report(ctx context.Context) (store.Report, error) {
	var report store.Report
	answer, err := r.client.Get(ctx, store.Prefix+"replicas/", clientv3.WithPrefix())
	if err != nil {
		return report, fmt.Errorf("read the replica's report: %w", err)
	}
	for _, kv := range answer.Kvs {
		if err := json.Unmarshal(kv.Value, &report); err != nil {
			return report, fmt.Errorf("read %s: %w", filepath.Base(string(kv.Key)), err)
		}
	}
	return report, nil
}
