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
	// Server is "host:port" or "unix:/path". A host should resolve to all replicas: gRPC goes on to the next address when one is gone, while the next server of a list
	// it tries only when it lacks something, and keeps weights for ever that nobody stands for any more.
	Server string
}

// clientServer is one control plane, as gRPC names it (gRFC A27).
type clientServer struct {
	URI         string              `json:"server_uri"`
	Credentials []clientCredentials `json:"channel_creds"`
}

// clientCredentials are how the control plane is known.
type clientCredentials struct {
	Type string `json:"type"`
}

// clientNode is who a client is.
type clientNode struct {
	ID      string `json:"id"`
	Gateway string `json:"cluster"`
}

// ClientBootstrap writes, in JSON, what $GRPC_XDS_BOOTSTRAP names or $GRPC_XDS_BOOTSTRAP_CONFIG holds.
func ClientBootstrap(c ClientBootstrapConfig) ([]byte, error) {
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("write a gRPC client's bootstrap: %w", err)
	}
	text, err := json.MarshalIndent(struct {
		Servers []clientServer `json:"xds_servers"`
		Node    clientNode     `json:"node"`
	}{
		[]clientServer{{URI: c.Server, Credentials: []clientCredentials{{Type: "insecure"}}}},
		clientNode{ID: c.ID, Gateway: c.Gateway},
	}, "", "  ")
	return append(text, '\n'), err
}

func (c ClientBootstrapConfig) check() error {
	switch {
	case c.Gateway == "" || strings.ContainsAny(c.Gateway, "/ "):
		return fmt.Errorf("gateway %q: expected a gateway's name such as edge", c.Gateway)
	case c.ID == "":
		return errors.New("id: expected a name for this client, such as checkout-1")
	}
	_, err := readServer(c.Server)
	return err
}
