package testenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/rampart-proxy/rampart/store"
)

// startTimeout bounds how long a process may take to answer for the first time; a busy machine of two cores needs a part of it.
const startTimeout = 30 * time.Second

// EtcdConfig says how a separate etcd is run.
type EtcdConfig struct {
	Program Program // a binary in the role of store.EmbeddedMain: rampart's hidden embedded-etcd, or a test binary's
	Dir     string  // its data, log and socket; an etcd started again on the same folder has the same data
	Port    int     // TCP port on loopback; 0 is a free one
}

// Etcd is one real etcd server in a process of its own, reached through TCP as a cluster of the user's is.
type Etcd struct {
	*Proc    // the process that runs now; replaced by Restart, so the owner of the Etcd calls its methods from one goroutine
	config   EtcdConfig
	endpoint string
}

// StartEtcd starts an etcd that lives until ctx ends and waits for its first answer.
func StartEtcd(ctx context.Context, c EtcdConfig) (*Etcd, error) {
	if c.Dir == "" {
		return nil, errors.New("start etcd: no folder given")
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("start etcd: %w", err)
	}
	if c.Port == 0 {
		port, err := FreePort()
		if err != nil {
			return nil, fmt.Errorf("start etcd: %w", err)
		}
		c.Port = port
	}
	e := &Etcd{config: c, endpoint: "127.0.0.1:" + strconv.Itoa(c.Port)}
	return e, e.launch(ctx)
}

// Endpoint is its address as rampart's --etcd takes it.
func (e *Etcd) Endpoint() string { return e.endpoint }

// Restart kills the server, if it runs, and starts it again on the same data and port.
func (e *Etcd) Restart(ctx context.Context) error {
	if err := e.Kill(); err != nil {
		return err
	}
	return e.launch(ctx)
}

func (e *Etcd) launch(ctx context.Context) error {
	command := Command{Program: e.config.Program, Log: filepath.Join(e.config.Dir, "etcd.log")}
	command.Args = append(command.Args[:len(command.Args):len(command.Args)],
		"--dir", filepath.Join(e.config.Dir, "etcd"), "--socket", store.SocketPath(e.config.Dir), "--listen", "http://"+e.endpoint)
	p, err := StartProc(ctx, command)
	if err != nil {
		return fmt.Errorf("start etcd: %w", err)
	}
	e.Proc = p
	if err := e.answers(ctx); err != nil {
		return errors.Join(fmt.Errorf("start etcd: %w", err), p.Kill())
	}
	return nil
}

// answers waits until a client gets through.
func (e *Etcd) answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	return during(ctx, e.Proc, func(ctx context.Context) error {
		s, err := store.Dial(ctx, store.Config{Endpoints: []string{e.endpoint}, DialTimeout: startTimeout})
		if err != nil {
			return errors.Join(err, context.Cause(ctx))
		}
		return s.Close()
	})
}
