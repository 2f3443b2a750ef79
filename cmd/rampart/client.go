package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rampart-proxy/rampart/store"
)

// clientFlags say which etcd is meant. Servers and clients share them.
type clientFlags struct {
	data              string
	etcd              []string
	cacert, cert, key string
}

// register leaves the data folder's default empty: it depends on the user, and help must not show the one of whoever wrote it.
func (f *clientFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&f.data, "data", "", "data folder (default /var/lib/rampart as root, else ~/.local/state/rampart)")
	flags.StringSliceVar(&f.etcd, "etcd", nil, "etcd to use instead of the embedded one: host:port[,host:port…]")
	flags.StringVar(&f.cacert, "etcd-cacert", "", "file with the CA certificate of that etcd")
	flags.StringVar(&f.cert, "etcd-cert", "", "file with the client certificate for that etcd")
	flags.StringVar(&f.key, "etcd-key", "", "file with the client certificate's key")
}

// checkEtcd checks the form of --etcd: that an address has no port would otherwise be told as if nobody answered there.
func (f *clientFlags) checkEtcd() error {
	for _, text := range f.etcd {
		rest, isUnix := strings.CutPrefix(text, "unix:")
		if isUnix && rest != "" {
			continue
		}
		_, address, hasScheme := strings.Cut(text, "://")
		if !hasScheme {
			address = text
		}
		host, port, err := net.SplitHostPort(strings.TrimSuffix(address, "/"))
		if number, wrong := strconv.ParseUint(port, 10, 16); err != nil || wrong != nil || number == 0 || host == "" {
			return usage("--etcd %q: expected host:port, with commas between several", text)
		}
	}
	return nil
}

// tls reads the certificates for --etcd; nil without any.
func (f *clientFlags) tls() (*tls.Config, error) {
	if f.cacert == "" && f.cert == "" && f.key == "" {
		return nil, nil
	}
	if len(f.etcd) == 0 {
		return nil, usage("read flags: certificates are for another etcd: name it with --etcd")
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.cacert != "" {
		pem, err := os.ReadFile(f.cacert)
		if err != nil {
			return nil, usage("read --etcd-cacert: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, usage("read --etcd-cacert: %s holds no PEM certificate", f.cacert)
		}
	}
	if (f.cert == "") != (f.key == "") {
		return nil, usage("read flags: --etcd-cert and --etcd-key go together")
	}
	if f.cert != "" {
		pair, err := tls.LoadX509KeyPair(f.cert, f.key)
		if err != nil {
			return nil, usage("read --etcd-cert and --etcd-key: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// dataFolder is where a server of this machine keeps its state, and where its clients find the embedded etcd's socket.
func (a *app) dataFolder() string {
	if a.flags.data != "" {
		return a.flags.data
	}
	if os.Geteuid() == 0 {
		return "/var/lib/rampart"
	}
	home, err := os.UserHomeDir()
	if err != nil {
		home = "."
	}
	return filepath.Join(home, ".local", "state", "rampart")
}

// etcdConfig names the etcd of --etcd. Without the flag it has no endpoints: the embedded one is meant.
func (a *app) etcdConfig(log *slog.Logger) store.Config {
	return store.Config{Endpoints: a.flags.etcd, TLS: a.tls, Log: log}
}

// endpoints names the etcd that clients talk to. It fails at once when the embedded one is meant and nothing listens there.
func (a *app) endpoints() ([]string, error) {
	if len(a.flags.etcd) > 0 {
		return a.flags.etcd, nil
	}
	folder := a.dataFolder()
	socket := store.SocketPath(folder)
	conn, err := net.DialTimeout("unix", socket, time.Second)
	if errors.Is(err, fs.ErrPermission) {
		return nil, notHere("the server of %s belongs to another user (permission denied)", folder)
	}
	if err != nil {
		return nil, notHere("no server runs on %s; start it with `rampart serve --data %s`, or name another etcd with --etcd", folder, folder)
	}
	// Only whether someone answers was of interest.
	_ = conn.Close()
	return []string{"unix://" + socket}, nil
}

// dial connects to the etcd that clients talk to.
func (a *app) dial(ctx context.Context) (*store.Store, error) {
	config := a.etcdConfig(nil)
	var err error
	if config.Endpoints, err = a.endpoints(); err != nil {
		return nil, err
	}
	s, err := store.Dial(ctx, config)
	if err != nil {
		return nil, notHere("%w", err)
	}
	return s, nil
}

// withStore does something that needs etcd. Whatever goes wrong is told as "doing: why".
func (a *app) withStore(ctx context.Context, doing string, work func(*store.Store) error) error {
	s, err := a.dial(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	err = work(s)
	// What had to be written has been answered; closing only lets go of the connection.
	_ = s.Close()
	if f, ok := errors.AsType[failure](err); ok && f.told {
		return err
	}
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return nil
}

// coded is an error with a gRPC code, as etcd's client returns them.
type coded interface {
	error
	Code() codes.Code
}

// unreachable reports whether err means that etcd did not answer, as opposed to answering no.
func unreachable(err error) bool {
	code := status.Code(err)
	if known, ok := errors.AsType[coded](err); ok {
		code = known.Code()
	}
	return errors.Is(err, context.DeadlineExceeded) || code == codes.Unavailable || code == codes.DeadlineExceeded
}

// serviceNames completes the names of services.
func (a *app) serviceNames(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 || a.prepare(c) != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(c.Context(), 2*time.Second)
	defer cancel()
	var names []string
	err := a.withStore(ctx, "complete", func(s *store.Store) error {
		w, err := readWorld(ctx, s)
		if err == nil {
			names = w.serviceNames()
		}
		return err
	})
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
