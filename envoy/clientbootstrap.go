package envoy

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// ClientBootstrapConfig is what a proxyless gRPC client's bootstrap is written for.
type ClientBootstrapConfig struct {
	Gateway, ID string
	Servers     []string // "host:port" or "unix:/path", in order of preference
}

// clientServer is one control plane, as gRPC names it (gRFC A27).
type clientServer struct {
	URI         string              `json:"server_uri"`
	Credentials []map[string]string `json:"channel_creds"`
}

// clientNode is who a client is.
type clientNode struct {
	ID      string `json:"id"`
	Gateway string `json:"cluster"`
}

// ClientBootstrap writes, in JSON, what $GRPC_XDS_BOOTSTRAP names or $GRPC_XDS_BOOTSTRAP_CONFIG holds.
func ClientBootstrap(c ClientBootstrapConfig) ([]byte, error) {
	servers, err := c.servers()
	if err != nil {
		return nil, fmt.Errorf("write a gRPC client's bootstrap: %w", err)
	}
	text, err := json.MarshalIndent(struct {
		Servers []clientServer `json:"xds_servers"`
		Node    clientNode     `json:"node"`
	}{servers, clientNode{ID: c.ID, Gateway: c.Gateway}}, "", "  ")
	return append(text, '\n'), err
}

func (c ClientBootstrapConfig) servers() ([]clientServer, error) {
	switch {
	case c.Gateway == "" || strings.ContainsAny(c.Gateway, "/ "):
		return nil, fmt.Errorf("gateway %q: expected a gateway's name such as edge", c.Gateway)
	case c.ID == "":
		return nil, errors.New("id: expected a name for this client, such as checkout-1")
	case len(c.Servers) == 0:
		return nil, errors.New("servers: expected at least one host:port or unix:/path")
	}
	servers := make([]clientServer, 0, len(c.Servers))
	for _, uri := range c.Servers {
		if _, err := readServer(uri); err != nil {
			return nil, err
		}
		servers = append(servers, clientServer{URI: uri, Credentials: []map[string]string{{"type": "insecure"}}})
	}
	return servers, nil
}
