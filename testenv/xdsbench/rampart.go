package xdsbench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/store"
	"github.com/rampart-proxy/rampart/testenv"
)

// rampart is `rampart serve` as users run it, over an etcd of its own that is another process.
type rampart struct {
	// Fixed.
	self    string // the binary
	folder  string
	etcd    *testenv.Etcd
	client  *clientv3.Client
	xds     string
	http    string
	release int // how many were begun; owned by the goroutine that measures

	proc *testenv.Proc // nil while it is down
}

// startRampart loads S services into a fresh etcd. The server is started by serve.
func startRampart(ctx context.Context, self, folder string, services int) (*rampart, error) {
	etcd, err := testenv.StartEtcd(ctx, testenv.EtcdConfig{Program: testenv.Program{Path: self, Args: []string{"embedded-etcd"}}, Dir: filepath.Join(folder, "etcd")})
	if err != nil {
		return nil, err
	}
	r := &rampart{self: self, folder: folder, etcd: etcd}
	if r.client, err = connect(etcd.Endpoint()); err != nil {
		return nil, errors.Join(err, r.stop())
	}
	ports := make([]int, 3)
	for i := range ports {
		if ports[i], err = testenv.FreePort(); err != nil {
			return nil, errors.Join(err, r.stop())
		}
	}
	r.xds, r.http = loopback(ports[0]), loopback(ports[1])
	if err := load(ctx, r.client, services, ports[2]); err != nil {
		return nil, errors.Join(err, r.stop())
	}
	return r, nil
}

func loopback(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }

// serve starts the server and returns how long it took until proxies were let in.
func (r *rampart) serve(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	proc, err := testenv.StartProc(ctx, testenv.Command{
		Program: testenv.Program{Path: r.self, Args: []string{
			"serve", "--data", filepath.Join(r.folder, "data"), "--etcd", r.etcd.Endpoint(), "--xds", r.xds, "--http", r.http,
		}},
		Env: []string{"RAMPART_ETCD_CACERT=", "RAMPART_ETCD_CERT=", "RAMPART_ETCD_KEY="},
		Log: filepath.Join(r.folder, "serve.log"),
	})
	if err != nil {
		return 0, err
	}
	r.proc = proc
	return r.ready(ctx, began)
}

func (r *rampart) ready(ctx context.Context, began time.Time) (time.Duration, error) {
	wait, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	err := testenv.Eventually(wait, func() (bool, error) {
		select {
		case <-r.proc.Ended():
			cancel()
			return false, r.proc.Wait()
		default:
		}
		request, err := http.NewRequestWithContext(wait, http.MethodGet, "http://"+r.http+"/readyz", nil)
		if err != nil {
			return false, err
		}
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			return false, err
		}
		_, err = io.Copy(io.Discard, answer.Body)
		return answer.StatusCode == http.StatusOK, errors.Join(err, answer.Body.Close())
	})
	if err != nil {
		return 0, fmt.Errorf("wait until rampart is ready: %w", err)
	}
	return time.Since(began), nil
}

// end ends the server, and leaves its etcd as it is.
func (r *rampart) end() error {
	if r.proc == nil {
		return nil
	}
	err := r.proc.Stop()
	r.proc = nil
	return err
}

// stop ends everything.
func (r *rampart) stop() error {
	err := r.end()
	if r.client != nil {
		err = errors.Join(err, r.client.Close())
	}
	return errors.Join(err, r.etcd.Kill(), os.RemoveAll(filepath.Dir(store.SocketPath(filepath.Join(r.folder, "data")))))
}

// begin begins a release as an operator does, orders its first step, and pauses it there.
func (r *rampart) begin(ctx context.Context) error {
	r.release++
	for _, serve := range []string{live, candidate} { // going back clears what a release before left
		text := document(shop, serve, "v"+strconv.Itoa(r.release+1))
		if _, err := r.client.Put(ctx, store.Key(store.ServiceDoc, shop), text); err != nil {
			return fmt.Errorf("begin a release: %w", err)
		}
		err := r.until(ctx, "the document to be accepted", func(s *policy.Served) bool {
			return s.Service.Serve == serve && (s.Release != nil) == (serve == candidate)
		})
		if err != nil {
			return err
		}
	}
	return r.climb(ctx)
}

// climb brings a release to its first step, where it is paused. After a gap longer than the dead-man's time a release begins again, so it may have been there before.
func (r *rampart) climb(ctx context.Context) error {
	for key, value := range map[string]string{store.Key(store.Order, shop): string(policy.Advance), store.Key(store.Pause, shop): ""} {
		if _, err := r.client.Put(ctx, key, value); err != nil {
			return fmt.Errorf("climb: %w", err)
		}
	}
	return r.until(ctx, "the first step to be confirmed", func(s *policy.Served) bool {
		return s.Release != nil && s.Release.Phase == policy.Soaking && s.Release.Weight == firstWeight
	})
}

// until waits until what is served of the stepped service is as it should be.
func (r *rampart) until(ctx context.Context, what string, holds func(*policy.Served) bool) error {
	wait, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	err := testenv.Eventually(wait, func() (bool, error) {
		s, err := served(wait, r.client)
		if err != nil {
			return false, err
		}
		if !holds(s) {
			return false, fmt.Errorf("served is %+v with release %+v", s.Live.Ref, s.Release)
		}
		return true, nil
	})
	if err != nil {
		return fmt.Errorf("wait for %s: %w", what, err)
	}
	return nil
}

// prepare makes a step ready: what is left is one put. It is the served copy as it stands, with another weight.
func (r *rampart) prepare(ctx context.Context, weight int) (func() error, error) {
	s, err := served(ctx, r.client)
	if err != nil {
		return nil, err
	}
	if s.Release == nil {
		return nil, fmt.Errorf("prepare a step: no release runs: %+v", s.Last)
	}
	s.Release.Weight = policy.Weight(weight)
	return func() error { return putJSON(ctx, r.client, store.Key(store.ServedService, shop), s) }, nil
}

// weight is the running release's.
func (r *rampart) weight(ctx context.Context) (int, error) {
	s, err := served(ctx, r.client)
	if err != nil {
		return 0, err
	}
	if s.Release == nil {
		return 0, fmt.Errorf("no release runs: %+v", s.Last)
	}
	return int(s.Release.Weight), nil
}
