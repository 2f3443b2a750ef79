package store

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
)

const (
	// MaxValue is the most bytes that one value may have.
	MaxValue = 256 << 10
	// MaxWrites is the most documents that one Put may have; etcd's own limit is 128 operations in a transaction.
	MaxWrites = 64

	dialTimeout = 5 * time.Second // when the caller names none
	callTimeout = 5 * time.Second // for one call, whatever the caller's context allows
)

// What callers branch on.
var (
	// ErrNotLeader means that a fenced write was refused because its writer no longer leads.
	ErrNotLeader = errors.New("not the leader")
	// ErrStale means that something a write was decided on has changed since it was read.
	ErrStale = errors.New("changed meanwhile")
)

// Config says which etcd to use.
type Config struct {
	Endpoints   []string      // "unix:///run/etcd.sock" or "host:port"
	TLS         *tls.Config   // nil: plain
	Log         *slog.Logger  // nil: silent
	DialTimeout time.Duration // 0: 5 s
}

// Store is a connection to one etcd cluster. Its methods may be called from any goroutine.
type Store struct {
	// Fixed after Dial.
	config  Config
	client  *clientv3.Client
	cluster uint64
	log     *slog.Logger

	mu      sync.Mutex
	lines   map[string]int              // guarded by mu: history lines written since the service's history was last trimmed
	reports map[string]clientv3.LeaseID // guarded by mu: the leases under which this process publishes
}

// Dial connects and waits until etcd answers, no longer than DialTimeout.
func Dial(ctx context.Context, c Config) (*Store, error) {
	if c.DialTimeout <= 0 {
		c.DialTimeout = dialTimeout
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	s := &Store{config: c, log: c.Log, lines: map[string]int{}, reports: map[string]clientv3.LeaseID{}}
	client, err := s.connect(c.DialTimeout)
	if err != nil {
		return nil, fmt.Errorf("reach etcd at %s: %w", s.where(), err)
	}
	ctx, cancel := context.WithTimeout(ctx, c.DialTimeout)
	defer cancel()
	answer, err := client.Get(ctx, Key(Beat, ""), clientv3.WithCountOnly())
	if err != nil {
		_ = client.Close()
		return nil, fmt.Errorf("reach etcd at %s: %w", s.where(), s.probe(err))
	}
	s.client, s.cluster = client, answer.Header.ClusterId
	return s, nil
}

// probe says why etcd cannot be reached, where the client only says that time is over.
func (s *Store) probe(cause error) error {
	network, address := "tcp", s.config.Endpoints[0]
	if scheme, rest, found := strings.Cut(address, "://"); found {
		address = rest
		if scheme == "unix" {
			network = scheme
		}
	}
	dialer := &net.Dialer{Timeout: time.Second}
	conn, err := dialer.Dial(network, address)
	if err == nil && s.config.TLS != nil && network == "tcp" {
		_ = conn.Close()
		conn, err = tls.DialWithDialer(dialer, network, address, s.config.TLS)
	}
	if err != nil {
		return err
	}
	_ = conn.Close()
	return fmt.Errorf("somebody listens there and does not answer as etcd does: %w", cause)
}

// connect makes a client. It does not wait for a connection.
func (s *Store) connect(dial time.Duration) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{
		Endpoints:            s.config.Endpoints,
		TLS:                  s.config.TLS,
		DialTimeout:          dial,
		DialKeepAliveTime:    10 * time.Second, // grpc-go's floor; a half-open connection is noticed in 13 s
		DialKeepAliveTimeout: 3 * time.Second,
		Logger:               zap.NewNop(), // every error it would log is returned as well
		// A restarted etcd is back in less than a second, and a release waits for it: grpc-go's own back-off goes up to two minutes.
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 500 * time.Millisecond},
			MinConnectTimeout: 2 * time.Second,
		})},
	})
}

// Close ends the connection, and with it what PublishReport keeps alive. Leaderships have connections of their own.
func (s *Store) Close() error {
	if err := s.client.Close(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("close etcd client: %w", err)
	}
	return nil
}

// ClusterID returns the id of the etcd cluster as 16 hexadecimal digits. A store keeps to the cluster it first met.
func (s *Store) ClusterID() string { return fmt.Sprintf("%016x", s.cluster) }

func (s *Store) where() string { return strings.Join(s.config.Endpoints, ", ") }

// bounded limits one call: etcd's client waits for a connection for as long as it is allowed to.
func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, callTimeout)
}

// sleep waits and reports whether ctx is still alive.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// delays is a growing pause between attempts: it doubles up to a most.
type delays struct{ next, first, most time.Duration }

func newDelays(first, most time.Duration) *delays {
	return &delays{next: first, first: first, most: most}
}

func (d *delays) take() time.Duration {
	now := d.next
	d.next = min(2*d.next, d.most)
	return now
}

func (d *delays) reset() { d.next = d.first }
