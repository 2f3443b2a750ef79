package store

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

const (
	embeddedQuota  = 512 << 20
	keepRevisions  = "10000" // of etcd's own history; looked at every 5 minutes
	closeTimeout   = time.Second
	embeddedMember = "rampart"
	// peerURL names the only member. It is part of the stored membership, so it never changes, wherever the socket lies.
	peerURL = "unix://rampart-peer"
)

// EmbeddedOptions is what the embedded etcd needs to know.
type EmbeddedOptions struct {
	Dir    string // etcd's own data
	Socket string // unix socket for clients
	Listen string // one more client address on loopback, "http://127.0.0.1:2379"; "" is none
	Quota  int64  // bytes of data at which etcd takes no more writes; 0: 512 MiB
}

// EmbeddedMain is the body of the process that Embedded starts: it parses args and serves until ctx ends.
func EmbeddedMain(ctx context.Context, args []string) error {
	var o EmbeddedOptions
	flags := flag.NewFlagSet("embedded etcd", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&o.Dir, "dir", "", "")
	flags.StringVar(&o.Socket, "socket", "", "")
	flags.StringVar(&o.Listen, "listen", "", "")
	flags.Int64Var(&o.Quota, "quota", 0, "")
	if err := flags.Parse(args); err != nil {
		return fmt.Errorf("embedded etcd: %w", err)
	}
	return ServeEmbedded(ctx, o)
}

// ServeEmbedded runs a single etcd server until ctx ends. It is the body of a process of its own: it sets the process's umask, and etcd ends the process when
// it cannot go on. It opens no TCP port unless Listen names one.
func ServeEmbedded(ctx context.Context, o EmbeddedOptions) error {
	syscall.Umask(0o077)
	// Left to itself, a second etcd on the same data waits for the first without a word.
	unlock, err := LockFolder(o.Dir)
	if err != nil {
		return err
	}
	defer func() { _ = unlock() }()
	if err := privateFolder(filepath.Dir(o.Socket)); err != nil {
		return err
	}
	// Only what etcd cannot get over is worth an operator's eye.
	level := zap.NewAtomicLevelAt(zapcore.ErrorLevel)
	config, err := o.config(level)
	if err != nil {
		return fmt.Errorf("embedded etcd: %w", err)
	}
	server, err := embed.StartEtcd(config)
	if err != nil {
		return fmt.Errorf("start embedded etcd: %w", err)
	}
	select {
	case <-server.Server.ReadyNotify():
	case <-server.Server.StopNotify():
		return errors.New("start embedded etcd: it stopped")
	case <-ctx.Done():
	}
	if err := makeRoom(ctx, server, config.QuotaBackendBytes); err != nil && ctx.Err() == nil {
		config.GetLogger().Error("etcd is out of space and stays so", zap.Error(err))
	}
	select {
	case <-ctx.Done():
		closeSoon(server, level)
		return nil
	case err := <-server.Err():
		return fmt.Errorf("embedded etcd: %w", err)
	}
}

// config sets what differs from etcd's defaults.
func (o EmbeddedOptions) config(level zap.AtomicLevel) (*embed.Config, error) {
	c := embed.NewConfig()
	c.Name = embeddedMember
	c.Dir = filepath.Join(o.Dir, "etcd")
	c.ListenClientUrls = []url.URL{{Scheme: "unix", Path: o.Socket}}
	if o.Listen != "" {
		extra, err := loopback(o.Listen)
		if err != nil {
			return nil, err
		}
		c.ListenClientUrls = append(c.ListenClientUrls, extra)
	}
	c.AdvertiseClientUrls = c.ListenClientUrls
	// etcd binds a peer URL's host only, so the path goes there.
	c.ListenPeerUrls = []url.URL{{Scheme: "unix", Host: peerSocket(o.Socket)}}
	peer, err := url.Parse(peerURL)
	if err != nil {
		return nil, err
	}
	c.AdvertisePeerUrls = []url.URL{*peer}
	c.InitialCluster = embeddedMember + "=" + peerURL
	// The cluster's id is a hash of this. Were it always the same, a wiped etcd would look like the old one.
	c.InitialClusterToken = rand.Text()
	// A lone member elects itself after up to an election timeout, during which nobody can write; and no lease may be shorter than 1.5 of them, in whole
	// seconds.
	c.TickMs, c.ElectionMs = 20, 200
	c.EnableGRPCGateway = false // any web page could write through it (reliability.md, point 8)
	c.HostWhitelist = map[string]struct{}{"localhost": {}, "127.0.0.1": {}, "::1": {}}
	c.CORS = map[string]struct{}{"http://localhost": {}}
	c.AutoCompactionMode, c.AutoCompactionRetention = embed.CompactorModeRevision, keepRevisions
	c.QuotaBackendBytes = embeddedQuota
	if o.Quota > 0 {
		c.QuotaBackendBytes = o.Quota
	}
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(quiet(level))
	return c, nil
}

// loopback parses a client address and refuses one that others could reach.
func loopback(address string) (url.URL, error) {
	parsed, err := url.Parse(address)
	if err != nil {
		return url.URL{}, fmt.Errorf("listen on %s: %w", address, err)
	}
	ip := net.ParseIP(parsed.Hostname())
	if parsed.Scheme != "http" || parsed.Port() == "" || ip == nil || !ip.IsLoopback() {
		return url.URL{}, fmt.Errorf("listen on %s: want an address on loopback such as http://127.0.0.1:2379", address)
	}
	return *parsed, nil
}

// quiet logs what someone must act on, one line each: the parent passes it on.
func quiet(level zap.AtomicLevel) *zap.Logger {
	encoder := zap.NewProductionEncoderConfig()
	encoder.TimeKey, encoder.CallerKey, encoder.StacktraceKey = "", "", ""
	return zap.New(sieve{zapcore.NewCore(zapcore.NewConsoleEncoder(encoder), zapcore.Lock(os.Stderr), level)})
}

// sieve drops an error that every new etcd logs once, before its first write to disk, and that means nothing.
type sieve struct{ zapcore.Core }

// With keeps the sieve around the core with fields.
func (s sieve) With(fields []zapcore.Field) zapcore.Core { return sieve{s.Core.With(fields)} }

// Check decides by the message.
func (s sieve) Check(e zapcore.Entry, c *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if e.Message == "failed to update storage version" {
		return c
	}
	return s.Core.Check(e, c)
}

// closeSoon stops the server, but does not wait for clients that still watch: a graceful stop would, for seconds, and nothing that was acknowledged is lost
// without it. The errors etcd logs of its own listeners then would only mislead.
func closeSoon(server *embed.Etcd, level zap.AtomicLevel) {
	level.SetLevel(zapcore.FatalLevel)
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		server.Close()
	}()
	timer := time.NewTimer(closeTimeout)
	defer timer.Stop()
	select {
	case <-closed:
	case <-timer.C:
	}
}

// makeRoom looks after an etcd that is out of space: it drops etcd's own history, shrinks the file, and takes writes again if that left less than half of
// the quota in use. Otherwise the alarm stays: only an operator can say what may go.
func makeRoom(ctx context.Context, server *embed.Etcd, quota int64) error {
	client := v3client.New(server.Server)
	defer func() { _ = client.Close() }()
	alarms, err := client.AlarmList(ctx)
	if err != nil || len(alarms.Alarms) == 0 {
		return err
	}
	now, err := client.Get(ctx, Prefix, clientv3.WithCountOnly())
	if err != nil {
		return err
	}
	// It fails when it has been done before.
	_, _ = client.Compact(ctx, now.Header.Revision, clientv3.WithCompactPhysical())
	backend := server.Server.Backend()
	if err := backend.Defrag(); err != nil {
		return fmt.Errorf("defragment: %w", err)
	}
	if size := backend.Size(); size >= quota/2 {
		return fmt.Errorf("%d bytes are in use, half of the quota is %d", size, quota/2)
	}
	for _, alarm := range alarms.Alarms {
		if alarm.Alarm != pb.AlarmType_NOSPACE {
			continue
		}
		if _, err := client.AlarmDisarm(ctx, (*clientv3.AlarmMember)(alarm)); err != nil {
			return fmt.Errorf("disarm the alarm: %w", err)
		}
	}
	return nil
}
