package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/rampart-proxy/rampart/replica"
	"github.com/rampart-proxy/rampart/store"
)

// serveFlags are what `rampart serve` was asked for. The etcd flags and the data folder are shared with the client commands.
type serveFlags struct {
	xds, http  string
	etcdListen string
	leaderTTL  time.Duration
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
			"It opens no other TCP port. SIGTERM and SIGINT end it within seconds; proxies keep what they have, and running ramps fall back by the dead-man's switch.",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.serve(c.Context(), f) },
	}
	flags := command.Flags()
	flags.StringVar(&f.xds, "xds", defaultXds, "address for proxies: host:port on loopback, or unix:/path")
	flags.StringVar(&f.http, "http", defaultHTTP, "address for /metrics, /healthz, /readyz and /proxies (read-only): host:port on loopback, or unix:/path")
	flags.StringVar(&f.etcdListen, "etcd-listen", "", "also open the embedded etcd on this loopback host:port, for etcdctl")
	flags.DurationVar(&f.leaderTTL, "leader-ttl", 5*time.Second, "how long a leader's lease lasts; at least 2s")
	flags.StringVar(&f.logFormat, "log-format", "text", "text or json")
	flags.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	return command
}

// serve runs a replica until ctx ends.
func (a *app) serve(ctx context.Context, f serveFlags) error {
	log, err := newLog(a, f)
	if err != nil {
		return err
	}
	if f.leaderTTL < 2*time.Second {
		return usage("serve: --leader-ttl %s is below 2s, the least etcd can hold a lease", f.leaderTTL)
	}
	folder := a.dataFolder()
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return fmt.Errorf("serve: make the data folder: %w", err)
	}
	unlock, err := store.LockFolder(folder)
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	defer func() { err = errors.Join(err, unlock()) }()
	listeners, err := listenAll(f.xds, f.http)
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	return a.serveWith(ctx, serving{flags: f, folder: folder, log: log, xds: listeners[0], http: listeners[1]})
}

// serving is a replica's process once its folder is locked and its ports are open.
type serving struct {
	flags     serveFlags
	folder    string
	log       *slog.Logger
	xds, http net.Listener
}

// serveWith runs the embedded etcd, when there is no other, and the replica over it. The replica ends first, so that it can resign.
func (a *app) serveWith(ctx context.Context, s serving) error {
	group, groupContext := errgroup.WithContext(ctx)
	etcdContext, stopEtcd := context.WithCancel(context.WithoutCancel(ctx))
	defer stopEtcd()
	config := a.etcdConfig(s.log)
	if len(config.Endpoints) == 0 {
		embedded, err := newEmbeddedEtcd(s)
		if err != nil {
			return err
		}
		config.Endpoints = []string{"unix://" + embedded.Socket}
		group.Go(func() error { return embedded.Run(etcdContext) })
		if err := embedded.Ready(groupContext); err != nil {
			stopEtcd()
			return errors.Join(fmt.Errorf("serve: %w", err), group.Wait())
		}
	}
	group.Go(func() error {
		defer stopEtcd()
		return a.runReplica(groupContext, s, config)
	})
	return group.Wait()
}

func newEmbeddedEtcd(s serving) (store.Embedded, error) {
	if s.flags.etcdListen != "" {
		if err := mustBeLoopback("--etcd-listen", s.flags.etcdListen); err != nil {
			return store.Embedded{}, fmt.Errorf("serve: %w", err)
		}
	}
	embedded := store.Embedded{Dir: filepath.Join(s.folder, "etcd"), Socket: store.SocketPath(s.folder), Log: s.log, Command: embeddedCommand}
	if s.flags.etcdListen != "" {
		embedded.Listen = "http://" + s.flags.etcdListen
	}
	return embedded, nil
}

func (a *app) runReplica(ctx context.Context, s serving, config store.Config) error {
	client, err := store.Dial(ctx, config)
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	defer client.Close()
	id, err := replica.ID(s.folder)
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	r, err := replica.New(replica.Config{
		ID: id, Folder: s.folder, Store: client, Xds: s.xds, HTTP: s.http, LeaderTTL: s.flags.leaderTTL, Now: time.Now, Log: s.log,
	})
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	s.log.Info("serves", "xds", s.xds.Addr().String(), "http", s.http.Addr().String(), "data", s.folder)
	return r.Run(ctx)
}

func newLog(a *app, f serveFlags) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(f.logLevel)); err != nil {
		return nil, usage("serve: --log-level %q is not debug, info, warn or error", f.logLevel)
	}
	options := &slog.HandlerOptions{Level: level}
	switch f.logFormat {
	case "text":
		return slog.New(slog.NewTextHandler(a.err, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(a.err, options)), nil
	}
	return nil, usage("serve: --log-format %q is not text or json", f.logFormat)
}

// listenAll opens all addresses or none.
func listenAll(addresses ...string) ([]net.Listener, error) {
	var open []net.Listener
	for _, address := range addresses {
		listener, err := listen(address)
		if err != nil {
			for _, l := range open {
				err = errors.Join(err, l.Close())
			}
			return nil, err
		}
		open = append(open, listener)
	}
	return open, nil
}

// listen opens a loopback TCP address or a unix socket. Anything else would need TLS, which does not exist yet.
func listen(address string) (net.Listener, error) {
	if path, isUnix := strings.CutPrefix(address, "unix:"); isUnix {
		// The folder's lock says that no other replica of ours uses this socket.
		if info, err := os.Stat(path); err == nil && info.Mode()&os.ModeSocket != 0 {
			if err := os.Remove(path); err != nil {
				return nil, fmt.Errorf("listen on %s: %w", address, err)
			}
		}
		listener, err := net.Listen("unix", path)
		if err != nil {
			return nil, fmt.Errorf("listen on %s: %w", address, err)
		}
		return listener, os.Chmod(path, 0o600)
	}
	if err := mustBeLoopback("listen", address); err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	return listener, nil
}

// mustBeLoopback refuses an address that others could reach: without TLS and client certificates anyone there could read or change traffic.
func mustBeLoopback(what, address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return usage("%s %s: expected host:port or unix:/path", what, address)
	}
	if ip := net.ParseIP(host); host == "localhost" || (ip != nil && ip.IsLoopback()) {
		return nil
	}
	return usage("%s %s: not on loopback, and that needs TLS with client certificates, which this version does not have; use 127.0.0.1 or unix:/path", what, address)
}
