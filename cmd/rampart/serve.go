package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/replica"
	"github.com/rampart-proxy/rampart/store"
	"github.com/rampart-proxy/rampart/xds"
)

// serveFlags are what `rampart serve` was asked for. The etcd flags and the data folder are shared with the client commands.
type serveFlags struct {
	xds, http  string
	etcdListen string
	leaderTTL  time.Duration
	prometheus string
	drain      time.Duration
	limits     xds.Limits
	reports    int // bytes per second
	logFormat  string
	logLevel   string
}

const (
	defaultXds  = "127.0.0.1:18000"
	defaultHTTP = "127.0.0.1:18001"
)

func newServe(a *app) *cobra.Command {
	f := serveFlags{}
	command := &cobra.Command{
		Use:   "serve",
		Short: "Run a replica: serve proxies, and decide when elected",
		Long: "Serve runs one replica with its own supervised etcd, or over the etcd that --etcd names. Proxies connect to --xds; `rampart bootstrap` writes what they need.\n" +
			"It opens no other TCP port. SIGTERM and SIGINT end it within seconds: when other replicas live, its proxies are sent to them a few at a time, within --drain;\n" +
			"else they keep what they have, and running ramps fall back by the dead-man's switch if none comes back. The --max flags bound what one client can cost.",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := a.serve(c.Context(), f); err != nil {
				return fmt.Errorf("serve: %w", err)
			}
			return nil
		},
	}
	flags := command.Flags()
	flags.StringVar(&f.xds, "xds", defaultXds, "address for proxies: host:port on loopback, or unix:/path")
	flags.StringVar(&f.http, "http", defaultHTTP, "address for /metrics, /healthz, /readyz and /proxies (read-only): host:port on loopback, or unix:/path")
	flags.StringVar(&f.etcdListen, "etcd-listen", "", "also open the embedded etcd on this loopback host:port, for etcdctl")
	flags.DurationVar(&f.leaderTTL, "leader-ttl", 5*time.Second, "how long a leader's lease lasts; at least 2s")
	flags.StringVar(&f.prometheus, "prometheus", "", "URL of the Prometheus for queries that name no server, such as http://prometheus:9090")
	flags.DurationVar(&f.drain, "drain", 3*time.Second, "over how long proxies are sent to the other replicas at the end; at most 6s, 0s cuts them off")
	limits := xds.Limits{}.WithDefaults()
	for _, l := range []struct {
		value *int
		name  string
		is    int
		usage string
	}{
		{&f.limits.Streams, "max-streams", limits.Streams, "discovery streams at once: proxies"},
		{&f.limits.NodeStreams, "max-node-streams", limits.NodeStreams, "discovery streams at once of one node id; a gRPC client has one for each service that it uses"},
		{&f.limits.ConnectionStreams, "max-connection-streams", limits.ConnectionStreams, "streams at once on one connection; an Envoy has three"},
		{&f.limits.Types, "max-types", limits.Types, "types of resources that one stream may ask for"},
		{&f.limits.Names, "max-names", limits.Names, "names that one stream may ask for of a type"},
		{&f.limits.Layers, "max-layers", limits.Layers, "runtime layers that one stream may ask for"},
		{&f.limits.Requests, "max-requests", limits.Requests, "requests a second of one stream that ask for something or answer nothing, ten times as many at once"},
		{&f.limits.RequestBytes, "max-request-bytes", limits.RequestBytes, "bytes of one request; a proxy that comes back names a version for all it has"},
		{&f.limits.ArrivalBytes, "max-arrival-bytes", limits.ArrivalBytes, "bytes, about, that proxies that come back may say at once; others wait for their turn"},
		{&f.limits.FirstBytes, "max-first-bytes", limits.FirstBytes, "bytes, about, of all clusters and endpoints that proxies are sent when they come and have not answered; others wait for their turn"},
	} {
		flags.IntVar(l.value, l.name, l.is, l.usage)
	}
	flags.DurationVar(&f.limits.Silence, "max-silence", limits.Silence, "how long a stream may say nothing when it comes, owe an answer or not read; a second more for each 64 KiB that it was sent")
	flags.IntVar(&f.reports, "report-bytes", 20_000_000, "bytes of load reports to read a second, at most; beyond, a random part of the proxies reports fast; at least 1000000")
	flags.StringVar(&f.logFormat, "log-format", "text", "text or json")
	flags.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	return command
}

// serve runs a replica until ctx ends, which is no error, however far it had come.
func (a *app) serve(ctx context.Context, f serveFlags) (err error) {
	log, err := newLog(a, f)
	if err != nil {
		return err
	}
	where, err := f.places(a.flags.etcd)
	if err != nil {
		return err
	}
	if f.leaderTTL < 2*time.Second {
		return usage("--leader-ttl %s is below 2s, the least etcd can hold a lease", f.leaderTTL)
	}
	if err := f.checkLimits(); err != nil {
		return err
	}
	if f.reports < 1_000_000 {
		return usage("--report-bytes %d is below 1000000, which is little more than four proxies", f.reports)
	}
	if problem := policy.ServerProblem(f.prometheus); problem != "" && f.prometheus != "" {
		return usage("--prometheus %s", problem)
	}
	folder := a.dataFolder()
	unlock, err := store.LockFolder(folder)
	if err != nil {
		return fmt.Errorf("%w; expected a folder for this server alone: name one with --data", err)
	}
	defer func() { err = errors.Join(err, unlock()) }()
	s, err := open(where)
	if err != nil {
		return err
	}
	defer s.close()
	s.leaderTTL, s.prometheus, s.reports, s.folder, s.log = f.leaderTTL, f.prometheus, f.reports, folder, log
	s.drain, s.limits = f.drain, f.limits
	return a.serveWith(ctx, s)
}

// checkLimits fails if a bound is out of reason.
func (f serveFlags) checkLimits() error {
	if f.drain < 0 || f.drain > 6*time.Second {
		return usage("--drain %s: expected 0s to 6s", f.drain)
	}
	if f.limits.Silence < time.Second || f.limits.Silence > time.Hour {
		return usage("--max-silence %s: expected 1s to 1h", f.limits.Silence)
	}
	for _, l := range []struct {
		name  string
		value int
	}{
		{"streams", f.limits.Streams}, {"node-streams", f.limits.NodeStreams}, {"layers", f.limits.Layers}, {"connection-streams", f.limits.ConnectionStreams}, {"types", f.limits.Types},
		{"names", f.limits.Names}, {"requests", f.limits.Requests}, {"request-bytes", f.limits.RequestBytes},
		{"arrival-bytes", f.limits.ArrivalBytes}, {"first-bytes", f.limits.FirstBytes},
	} {
		if l.value < 1 || l.value > math.MaxInt32 {
			return usage("--max-%s %d: expected 1 to %d", l.name, l.value, math.MaxInt32)
		}
	}
	return nil
}

// serving is a replica's process once its folder is locked and its ports are open.
type serving struct {
	leaderTTL  time.Duration
	prometheus string // "" is none
	drain      time.Duration
	limits     xds.Limits
	reports    int // bytes per second
	folder     string
	log        *slog.Logger
	xds, http  net.Listener
	etcdListen string // address for the embedded etcd to open; "" is none
}

// serveWith runs the embedded etcd, when there is no other, and the replica over it. The replica ends first, so that it can resign.
func (a *app) serveWith(ctx context.Context, s serving) error {
	group, groupContext := errgroup.WithContext(ctx)
	etcdContext, stopEtcd := context.WithCancel(context.WithoutCancel(ctx))
	defer stopEtcd()
	config := a.etcdConfig(s.log)
	ready := func() error { return nil }
	if len(config.Endpoints) == 0 {
		embedded := newEmbeddedEtcd(s)
		config.Endpoints = []string{"unix://" + embedded.Socket}
		group.Go(func() error { return embedded.Run(etcdContext) })
		ready = func() error { return embedded.Ready(groupContext) }
	}
	group.Go(func() error {
		defer stopEtcd()
		if err := ready(); err != nil {
			return unlessAsked(groupContext, err)
		}
		return a.runReplica(groupContext, s, config)
	})
	return group.Wait()
}

// unlessAsked is the error of a wait, or nothing when the wait ended because ctx did: then nothing is wrong, or what is wrong has been said.
func unlessAsked(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (a *app) runReplica(ctx context.Context, s serving, config store.Config) error {
	client, err := store.Dial(ctx, config)
	if err != nil {
		return unlessAsked(ctx, notHere("%w", err))
	}
	defer client.Close()
	id, err := replica.ID(s.folder)
	if err != nil {
		return err
	}
	r, err := replica.New(replica.Config{
		ID: id, Folder: s.folder, Store: client, Xds: s.xds, HTTP: s.http, LeaderTTL: s.leaderTTL, Prometheus: s.prometheus, ReportBytes: s.reports,
		Drain: s.drain, Limits: s.limits,
		Now: time.Now, Log: s.log,
	})
	if err != nil {
		return err
	}
	s.log.Info("serves", "xds", s.xds.Addr().String(), "http", s.http.Addr().String(), "data", s.folder)
	return r.Run(ctx)
}

func newLog(a *app, f serveFlags) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(f.logLevel)); err != nil {
		return nil, usage("--log-level %q is not debug, info, warn or error", f.logLevel)
	}
	options := &slog.HandlerOptions{Level: level}
	switch f.logFormat {
	case "text":
		return slog.New(slog.NewTextHandler(a.err, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(a.err, options)), nil
	}
	return nil, usage("--log-format %q is not text or json", f.logFormat)
}

// place is somewhere to listen, named by a flag.
type place struct {
	flag, text string // as the operator wrote them
	network    string // "tcp" or "unix"
	address    string
}

// places are where a server listens. The zero place of etcd is nowhere.
type places struct{ xds, http, etcd place }

// places checks the addresses without touching anything.
func (f serveFlags) places(etcd []string) (where places, err error) {
	if f.etcdListen != "" && len(etcd) > 0 {
		return places{}, usage("--etcd-listen opens the embedded etcd, and --etcd %s is used instead of that; expected one of the two", strings.Join(etcd, ","))
	}
	if where.xds, err = placeOf("--xds", f.xds); err != nil {
		return places{}, err
	}
	if where.http, err = placeOf("--http", f.http); err != nil {
		return places{}, err
	}
	if f.etcdListen != "" {
		where.etcd, err = loopbackPlace(place{flag: "--etcd-listen", text: f.etcdListen}, "127.0.0.1:PORT")
	}
	return where, err
}

// placeOf reads an address that is on loopback or a unix socket.
func placeOf(flag, text string) (place, error) {
	p := place{flag: flag, text: text}
	path, isUnix := strings.CutPrefix(text, "unix:")
	if !isUnix {
		return loopbackPlace(p, "127.0.0.1:PORT or unix:/path")
	}
	// Without a folder it would be an abstract socket, which every user of the machine can open, or lie where clients do not look. The kernel's field holds a
	// zero at its end.
	if most := len(syscall.RawSockaddrUnix{}.Path) - 1; !filepath.IsAbs(path) || len(path) > most {
		return place{}, usage("%s %s: expected unix:/path, absolute and of at most %d bytes", flag, text, most)
	}
	p.network, p.address = "unix", path
	return p, nil
}

// loopbackPlace refuses an address that others could reach: without TLS and client certificates anyone there could read or change traffic.
func loopbackPlace(p place, expected string) (place, error) {
	host, port, err := net.SplitHostPort(p.text)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return place{}, usage("%s %s: expected a host and a port on loopback: %s", p.flag, p.text, expected)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return place{}, usage("%s %s: not on loopback, and that needs TLS with client certificates, which this version does not have; expected %s", p.flag, p.text, expected)
	}
	p.network, p.address = "tcp", p.text
	return p, nil
}

// open opens all places or none.
func open(where places) (s serving, err error) {
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.xds, err = where.xds.listen(); err != nil {
		return s, err
	}
	if s.http, err = where.http.listen(); err != nil {
		return s, err
	}
	if where.etcd != (place{}) {
		s.etcdListen, err = where.etcd.tryOut()
	}
	return s, err
}

// close lets go of what a replica that ran has closed already: only one that never ran has something left.
func (s serving) close() {
	for _, listener := range []net.Listener{s.xds, s.http} {
		if listener != nil {
			_ = listener.Close()
		}
	}
}

func (p place) listen() (net.Listener, error) {
	if p.network == "unix" {
		if err := clearSocket(p.address); err != nil {
			return nil, p.refusal(err)
		}
	}
	listener, err := net.Listen(p.network, p.address)
	if err != nil {
		return nil, p.refusal(err)
	}
	if p.network == "unix" {
		err = os.Chmod(p.address, 0o600)
	}
	if err != nil {
		_ = listener.Close()
		return nil, p.refusal(err)
	}
	return listener, nil
}

// tryOut shows that the place is free and returns its address in numbers. It is for the embedded etcd, which opens it itself and, being supervised, would try
// again and again.
func (p place) tryOut() (string, error) {
	listener, err := p.listen()
	if err != nil {
		return "", err
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		return "", p.refusal(err)
	}
	return address, nil
}

// clearSocket removes a socket that a killed process left. One that answers, or that is not ours to open, stays: whoever listens there would never be found
// again.
func clearSocket(path string) error {
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		// Only whether someone answers was of interest.
		_ = conn.Close()
		return syscall.EADDRINUSE
	}
	found, missing := os.Lstat(path)
	switch {
	case missing != nil:
		return nil
	case found.Mode().Type() != os.ModeSocket:
		return syscall.EEXIST
	case !errors.Is(err, syscall.ECONNREFUSED):
		return err
	}
	return os.Remove(path)
}

// refusal says which flag's place cannot be opened, why, and what would do.
func (p place) refusal(err error) error {
	expected := map[syscall.Errno]string{
		syscall.EADDRINUSE: "a place where nobody listens", syscall.EEXIST: "a path where nothing is", syscall.ENOENT: "a path in a folder that exists",
		syscall.ENOTDIR: "a path in a folder that exists", syscall.EACCES: "a place that this user may open",
	}
	// The system's word is enough: the address stands before it already.
	if number, ok := errors.AsType[syscall.Errno](err); ok && expected[number] != "" {
		return fmt.Errorf("listen on %s %s: %w; expected %s", p.flag, p.text, number, expected[number])
	}
	return fmt.Errorf("listen on %s %s: %w", p.flag, p.text, err)
}
