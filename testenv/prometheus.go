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

// PrometheusConfig says how a Prometheus is run.
type PrometheusConfig struct {
	Path    string   // the binary; "" asks FindPrometheus
	Dir     string   // its data, configuration and log; one started again on the same folder has the same data
	Targets []string // host:port, scraped every second; the first time some five seconds after the start
	Port    int      // TCP port on loopback; 0 is a free one
}

// Prometheus is one real Prometheus in a process of its own.
type Prometheus struct {
	*Proc   // the process that runs now; replaced by Restart, so the owner of the Prometheus calls its methods from one goroutine
	config  PrometheusConfig
	address string
}

// StartPrometheus starts a Prometheus that lives until ctx ends and waits until it answers queries.
func StartPrometheus(ctx context.Context, c PrometheusConfig) (*Prometheus, error) {
	if c.Path == "" {
		path, err := FindPrometheus()
		if err != nil {
			return nil, fmt.Errorf("start Prometheus: %w", err)
		}
		c.Path = path
	}
	if c.Dir == "" {
		return nil, errors.New("start Prometheus: no folder given")
	}
	if c.Port == 0 {
		port, err := FreePort()
		if err != nil {
			return nil, fmt.Errorf("start Prometheus: %w", err)
		}
		c.Port = port
	}
	p := &Prometheus{config: c, address: "127.0.0.1:" + strconv.Itoa(c.Port)}
	if err := os.WriteFile(p.file("prometheus.yml"), c.configuration(), 0o600); err != nil {
		return nil, fmt.Errorf("start Prometheus: %w", err)
	}
	return p, p.launch(ctx)
}

// configuration scrapes all targets every second. JSON strings are YAML, too.
func (c PrometheusConfig) configuration() []byte {
	var targets []string
	for _, t := range c.Targets {
		targets = append(targets, strconv.Quote(t))
	}
	return fmt.Appendf(nil, `
global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs:
- job_name: testenv
  static_configs: [{targets: [%s]}]
`, strings.Join(targets, ", "))
}

func (p *Prometheus) file(name string) string { return filepath.Join(p.config.Dir, name) }

// URL is its address as rampart's --prometheus takes it.
func (p *Prometheus) URL() string { return "http://" + p.address }

// Restart kills the server, if it runs, and starts it again on the same data and port.
func (p *Prometheus) Restart(ctx context.Context) error {
	if err := p.Kill(); err != nil {
		return err
	}
	return p.launch(ctx)
}

func (p *Prometheus) launch(ctx context.Context) error {
	args := []string{
		"--config.file", p.file("prometheus.yml"), "--storage.tsdb.path", p.file("data"), "--web.listen-address", p.address, "--log.level", "warn",
	}
	process, err := StartProc(ctx, Command{Program: Program{Path: p.config.Path, Args: args}, Log: p.file("prometheus.log")})
	if err != nil {
		return fmt.Errorf("start Prometheus: %w", err)
	}
	p.Proc = process
	if err := p.ready(ctx); err != nil {
		return errors.Join(fmt.Errorf("start Prometheus: %w", err), process.Kill())
	}
	return nil
}

// ready waits until it says that it can answer.
func (p *Prometheus) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	return during(ctx, p.Proc, func(ctx context.Context) error {
		return Eventually(ctx, func() (bool, error) {
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL()+"/-/ready", nil)
			if err != nil {
				return false, err
			}
			response, err := client.Do(request)
			if err != nil {
				return false, err
			}
			defer response.Body.Close()
			if response.StatusCode != http.StatusOK {
				return false, fmt.Errorf("it answers %s", response.Status)
			}
			return true, nil
		})
	})
}
