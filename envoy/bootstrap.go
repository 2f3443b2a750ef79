package envoy

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"
)

// BootstrapConfig is what a bootstrap is written for.
type BootstrapConfig struct {
	Gateway, ID string
	Servers     []string // "host:port" or "unix:/path", in order of preference
	AdminPort   int      // on loopback; 0 is no admin interface
	Snippet     bool     // only the parts to merge into a bootstrap that exists
}

//go:embed bootstrap.yaml.tmpl
var bootstrapText string

// Bootstrap writes an Envoy bootstrap, in YAML, with everything that rampart's promises need of an Envoy. Its comments say what each part is for.
func Bootstrap(c BootstrapConfig) ([]byte, error) {
	view, err := c.view()
	if err != nil {
		return nil, fmt.Errorf("write a bootstrap: %w", err)
	}
	parsed, err := template.New("bootstrap").Funcs(template.FuncMap{"quote": quote}).Parse(bootstrapText)
	if err != nil {
		return nil, fmt.Errorf("write a bootstrap: %w", err)
	}
	var text strings.Builder
	if err := parsed.Execute(&text, view); err != nil {
		return nil, fmt.Errorf("write a bootstrap: %w", err)
	}
	return []byte(text.String()), nil
}

// bootstrapView is what the template is filled with.
type bootstrapView struct {
	BootstrapConfig
	LayersKey   string
	Layers      []string
	Resolve     bool // a server is named by a host that must be resolved
	Replicas    []replicaView
	TimeBuckets string
}

// replicaView is one server, as a member of the cluster of all of them.
type replicaView struct {
	Priority   int
	Path, Host string
	Port       uint64
}

func (c BootstrapConfig) view() (bootstrapView, error) {
	view := bootstrapView{BootstrapConfig: c, LayersKey: layersKey, TimeBuckets: timeBuckets()}
	switch {
	case c.Gateway == "" || strings.ContainsAny(c.Gateway, "/ "):
		return view, fmt.Errorf("gateway %q: expected a gateway's name such as edge", c.Gateway)
	case c.ID == "":
		return view, errors.New("id: expected a name for this Envoy, such as edge-1")
	case len(c.Servers) == 0:
		return view, errors.New("servers: expected at least one host:port or unix:/path")
	case c.AdminPort < 0 || c.AdminPort > 65535:
		return view, fmt.Errorf("admin port %d: expected 0 to 65535", c.AdminPort)
	}
	sockets := false
	for i, server := range c.Servers {
		r, err := readServer(server)
		if err != nil {
			return view, err
		}
		r.Priority = i
		view.Replicas = append(view.Replicas, r)
		sockets = sockets || r.Path != ""
		if _, err := netip.ParseAddr(r.Host); err != nil && r.Path == "" {
			view.Resolve = true
		}
	}
	if sockets && view.Resolve {
		return view, errors.New("servers: Envoy cannot mix unix sockets with host names; write the hosts' addresses")
	}
	for i := range Layers {
		view.Layers = append(view.Layers, layerName(i))
	}
	return view, nil
}

func readServer(text string) (replicaView, error) {
	if path, unix := strings.CutPrefix(text, "unix:"); unix {
		if !filepath.IsAbs(path) {
			return replicaView{}, fmt.Errorf("server %q: expected unix:/path with a whole path", text)
		}
		return replicaView{Path: path}, nil
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil || host == "" {
		return replicaView{}, fmt.Errorf("server %q: expected host:port or unix:/path", text)
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || number == 0 {
		return replicaView{}, fmt.Errorf("server %q: expected a port from 1 to 65535", text)
	}
	return replicaView{Host: host, Port: number}, nil
}

// quote writes a string as YAML and JSON alike understand it.
func quote(text string) (string, error) {
	quoted, err := json.Marshal(text)
	return string(quoted), err
}
