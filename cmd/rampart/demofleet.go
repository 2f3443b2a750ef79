package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rampart-proxy/rampart/store"
	"github.com/rampart-proxy/rampart/testenv"
)

const (
	demoService   = "shop"
	demoGateway   = "edge"
	demoHost      = "shop.example.com"
	demoProxies   = 3
	demoModels    = 3 // servers of each version
	demoRate      = 300
	demoLeaderTTL = 2 * time.Second
	demoDeadman   = 3 * time.Second
	// fleetTimeout bounds every wait for something that should be there within seconds, on a machine that has other things to do.
	fleetTimeout = 60 * time.Second
)

// fleetConfig says what a demo or a benchmark runs on.
type fleetConfig struct {
	self    string // the rampart binary
	envoy   string // the Envoy binary
	folder  string // a temporary one, for everything
	proxies int    // Envoys
}

// fleet is a world in small, on loopback: `rampart serve` with its own etcd, Envoys that share one listener port, and model servers behind them. It is driven
// through the released commands and the public documents only.
type fleet struct {
	fleetConfig            // fixed after newFleet
	ports       fleetPorts // fixed after newFleet

	// Owned by the goroutine that plays.
	server *testenv.Proc // `rampart serve`; nil while it is down
	store  *store.Store
	envoys []*testenv.Envoy
	sides  map[string]*side  // by backend
	live   string            // the backend that is committed
	usual  testenv.Behaviour // of every version that is deployed from now on
}

// fleetPorts are all on loopback.
type fleetPorts struct{ users, xds, http, etcd int }

// side is one backend of the service and the model servers behind it.
type side struct {
	version string
	models  []*testenv.Model
}

func newFleet(c fleetConfig) (*fleet, error) {
	f := &fleet{fleetConfig: c, sides: map[string]*side{}, live: "blue"}
	for _, port := range []*int{&f.ports.users, &f.ports.xds, &f.ports.http, &f.ports.etcd} {
		free, err := testenv.FreePort()
		if err != nil {
			return nil, err
		}
		*port = free
	}
	return f, nil
}

func loopback(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }

func (f *fleet) data() string { return filepath.Join(f.folder, "data") }

// start brings the fleet up with v1 live. Everything ends with ctx at the latest.
func (f *fleet) start(ctx context.Context) error {
	if err := f.deploy(ctx, "blue", "v1"); err != nil {
		return err
	}
	if err := f.serve(ctx); err != nil {
		return err
	}
	dial, cancel := context.WithTimeout(ctx, fleetTimeout)
	defer cancel()
	var err error
	err = f.beside(dial, func(ctx context.Context) error {
		f.store, err = store.Dial(ctx, store.Config{Endpoints: []string{"unix://" + store.SocketPath(f.data())}, DialTimeout: fleetTimeout})
		return err
	})
	if err != nil {
		return err
	}
	if err := f.put(ctx, store.GatewayDoc, demoGateway, f.gatewayDocument()); err != nil {
		return err
	}
	if err := f.put(ctx, store.ServiceDoc, demoService, f.document(script{serve: "blue"})); err != nil {
		return err
	}
	return f.startEnvoys(ctx, f.proxies)
}

// serve starts the control plane and does not wait for it.
func (f *fleet) serve(ctx context.Context) error {
	server, err := testenv.StartProc(ctx, testenv.Command{
		Program: testenv.Program{Path: f.self, Args: []string{
			"serve", "--data", f.data(), "--xds", loopback(f.ports.xds), "--http", loopback(f.ports.http),
			"--etcd-listen", loopback(f.ports.etcd), "--leader-ttl", demoLeaderTTL.String(),
		}},
		// What the user's shell says of another etcd is not meant for this server.
		Env: []string{"RAMPART_ETCD=", "RAMPART_ETCD_CACERT=", "RAMPART_ETCD_CERT=", "RAMPART_ETCD_KEY="},
		Log: filepath.Join(f.folder, "serve.log"),
	})
	f.server = server
	return err
}

// beside does something that needs the server, and stops with the server's last words when that dies.
func (f *fleet) beside(ctx context.Context, work func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	server := f.server
	go func() {
		select {
		case <-server.Ended():
			cancel(errors.Join(errors.New("rampart serve ended"), server.Wait()))
		case <-ctx.Done():
		}
	}()
	if err := work(ctx); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return errors.Join(err, cause)
		}
		return err
	}
	return nil
}

// put writes a document as a user would, against what is there now.
func (f *fleet) put(ctx context.Context, kind store.Kind, name string, document []byte) error {
	mod := int64(0)
	if kind == store.ServiceDoc {
		view, err := f.store.Service(ctx, name)
		if err != nil {
			return err
		}
		mod = view.Doc.Mod
	}
	return f.store.Put(ctx, []store.Write{{Kind: kind, Name: name, Value: document, Mod: mod}})
}

// startEnvoys adds Envoys with the bootstraps that `rampart bootstrap` writes, up to a number, and waits until each serves and users get through.
func (f *fleet) startEnvoys(ctx context.Context, upTo int) error {
	group := errgroup.Group{}
	// More at a time would only wait for one another.
	group.SetLimit(4)
	first := len(f.envoys)
	f.envoys = append(f.envoys, make([]*testenv.Envoy, upTo-first)...)
	for i := first; i < upTo; i++ {
		group.Go(func() error {
			e, err := f.startEnvoy(ctx, fmt.Sprintf("edge-%d", i+1))
			f.envoys[i] = e
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(ctx, fleetTimeout)
	defer cancel()
	err := f.beside(wait, func(ctx context.Context) error {
		return testenv.Eventually(ctx, func() (bool, error) { return f.answers(ctx) })
	})
	if err != nil {
		return fmt.Errorf("wait for the first answer through the Envoys: %w", err)
	}
	return nil
}

func (f *fleet) startEnvoy(ctx context.Context, id string) (*testenv.Envoy, error) {
	bootstrap, err := exec.CommandContext(ctx, f.self, "bootstrap", "--gateway", demoGateway, "--id", id, "--xds", loopback(f.ports.xds)).Output()
	if err != nil {
		return nil, fmt.Errorf("write the bootstrap of %s: %w", id, err)
	}
	e, err := testenv.StartEnvoy(ctx, testenv.EnvoyConfig{Path: f.envoy, Bootstrap: bootstrap, ID: id, Dir: f.folder})
	if err != nil {
		return nil, err
	}
	wait, cancel := context.WithTimeout(ctx, fleetTimeout)
	defer cancel()
	return e, e.Ready(wait)
}

// answers asks through each connection's Envoy once.
func (f *fleet) answers(ctx context.Context) (bool, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+loopback(f.ports.users)+"/", nil)
	if err != nil {
		return false, err
	}
	request.Host, request.Close = demoHost, true
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return false, err
	}
	_, err = io.Copy(io.Discard, answer.Body)
	return answer.StatusCode == http.StatusOK, errors.Join(err, answer.Body.Close())
}

// idle is the backend that is not live.
func (f *fleet) idle() string {
	if f.live == "blue" {
		return "green"
	}
	return "blue"
}

// deploy replaces what runs behind a backend by model servers of another version. Nobody is sent to them before the document says so.
func (f *fleet) deploy(ctx context.Context, backend, version string) error {
	next := &side{version: version}
	for range demoModels {
		m, err := testenv.StartModel(ctx, testenv.ModelConfig{
			Program: testenv.Program{Path: f.self, Args: []string{modelName}}, Version: version,
			// What a small model on a CPU takes.
			Median: 12 * time.Millisecond, P99: 60 * time.Millisecond, Log: filepath.Join(f.folder, "models.log"),
		})
		if err != nil {
			return err
		}
		next.models = append(next.models, m)
	}
	if err := next.behave(ctx, f.usual); err != nil {
		return errors.Join(err, next.kill())
	}
	before := f.sides[backend]
	f.sides[backend] = next
	return before.kill()
}

// kill ends all of a side's processes at once, as a machine that loses power does.
func (s *side) kill() error {
	if s == nil {
		return nil
	}
	var all error
	for _, m := range s.models {
		all = errors.Join(all, m.Kill())
	}
	return all
}

// killServer takes the control plane away at one stroke: rampart and its etcd, SIGKILLed.
func (f *fleet) killServer() error {
	children, err := childrenOf(f.server.Pid())
	if err != nil {
		return err
	}
	all := f.server.Kill()
	for _, child := range children {
		all = errors.Join(all, killAndWait(child))
	}
	f.server = nil
	return all
}

// stop ends everything in an orderly way. What does not end by itself is killed.
func (f *fleet) stop() error {
	var all error
	if f.store != nil {
		all = f.store.Close()
	}
	for _, e := range f.envoys {
		if e != nil {
			all = errors.Join(all, e.Kill())
		}
	}
	if f.server != nil {
		all = errors.Join(all, f.server.Stop())
	}
	for _, s := range f.sides {
		all = errors.Join(all, s.kill())
	}
	return errors.Join(all, os.RemoveAll(filepath.Dir(store.SocketPath(f.data()))))
}
