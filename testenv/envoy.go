package testenv

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// EnvoyConfig says how an Envoy is run.
type EnvoyConfig struct {
	Path        string // the binary; "" asks FindEnvoy
	Bootstrap   []byte // YAML, as `rampart bootstrap` writes it; its admin address is replaced
	ID          string // its node id, and the name of its files
	Dir         string // gets bootstrap, log and admin address
	AdminPort   int    // TCP port on loopback; 0 is a free one
	Concurrency int    // worker threads; 0 is one
	Log         string // level of its log; "" is warning
}

// Envoy is one real Envoy in a process of its own.
type Envoy struct {
	*Proc
	ID    string
	admin string       // host:port of its admin interface, fixed after StartEnvoy
	http  *http.Client // to the admin interface
}

// StartEnvoy starts an Envoy that lives until ctx ends and waits until its admin interface answers. It need not be ready by then: see Ready.
func StartEnvoy(ctx context.Context, c EnvoyConfig) (*Envoy, error) {
	e := &Envoy{ID: c.ID, http: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 1}}}
	command, err := c.command()
	if err != nil {
		return nil, fmt.Errorf("start Envoy %s: %w", c.ID, err)
	}
	if e.Proc, err = StartProc(ctx, command); err != nil {
		return nil, fmt.Errorf("start Envoy %s: %w", c.ID, err)
	}
	wait, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := during(wait, e.Proc, func(ctx context.Context) error { return e.meet(ctx, c.adminFile()) }); err != nil {
		return nil, errors.Join(fmt.Errorf("start Envoy %s: %w", c.ID, err), e.Kill())
	}
	return e, nil
}

func (c EnvoyConfig) adminFile() string { return filepath.Join(c.Dir, c.ID+".admin") }

// command writes the files of an Envoy and says how it is run.
func (c EnvoyConfig) command() (Command, error) {
	if c.Path == "" {
		path, err := FindEnvoy()
		if err != nil {
			return Command{}, err
		}
		c.Path = path
	}
	if c.ID == "" || c.Dir == "" {
		return Command{}, errors.New("it needs an id and a folder")
	}
	bootstrap := filepath.Join(c.Dir, c.ID+".yaml")
	if err := os.WriteFile(bootstrap, c.Bootstrap, 0o600); err != nil {
		return Command{}, err
	}
	// An address left by an earlier run would be taken for this one's.
	if err := os.Remove(c.adminFile()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return Command{}, err
	}
	admin := fmt.Sprintf("admin: {address: {socket_address: {address: 127.0.0.1, port_value: %d}}}", c.AdminPort)
	args := []string{
		"-c", bootstrap, "--config-yaml", admin, "--admin-address-path", c.adminFile(), "--service-node", c.ID,
		// Envoys share memory with their namesakes for hot restarts; ours are strangers to one another.
		"--disable-hot-restart",
		"--concurrency", strconv.Itoa(max(c.Concurrency, 1)), "--log-level", c.level(),
	}
	return Command{Program: Program{Path: c.Path, Args: args}, Log: filepath.Join(c.Dir, c.ID+".log")}, nil
}

func (c EnvoyConfig) level() string {
	if c.Log == "" {
		return "warning"
	}
	return c.Log
}

// meet waits for the admin interface's address and first answer.
func (e *Envoy) meet(ctx context.Context, file string) error {
	return Eventually(ctx, func() (bool, error) {
		address, err := os.ReadFile(file)
		if err != nil || len(address) == 0 {
			return false, err
		}
		e.admin = strings.TrimSpace(string(address))
		_, err = e.Admin(ctx, "/server_info")
		return err == nil, err
	})
}
