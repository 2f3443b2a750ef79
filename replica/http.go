package replica

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/rampart-proxy/rampart/envoy"
	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/xds"
)

// ProxyView is one proxy as /proxies tells of it.
type ProxyView struct {
	Proxy      string    `json:"proxy"`
	Gateway    string    `json:"gateway"`
	Version    string    `json:"version"`
	Protocol   string    `json:"protocol"` // of xDS: "delta" or "state of the world"
	Connected  time.Time `json:"connected"`
	LastSeen   time.Time `json:"lastSeen"`
	LastReport time.Time `json:"lastReport,omitzero"` // of load or statistics
	Deadman    string    `json:"deadman"`             // "15s", "off", or "no" for a proxy without ramp layers
	Known      bool      `json:"known"`               // its gateway exists
	Pending    int       `json:"pending"`             // responses it has not answered
	Duplicate  bool      `json:"duplicate,omitempty"` // another Envoy has the same node id; a gRPC client has a stream for each service it uses
	Frozen     string    `json:"frozen,omitempty"`
	Dated      string    `json:"dated,omitempty"` // what its version lacks
	Rejections []string  `json:"rejections,omitempty"`
	// Resources are told of only when the proxy is asked for by name.
	Resources []ResourceView `json:"resources,omitempty"`
}

// ResourceView is what a proxy has of one resource.
type ResourceView struct {
	Type     string    `json:"type"` // "cluster", "endpoints", "listener", "routes", "layer", or the last word of its type URL
	Name     string    `json:"name"`
	Version  string    `json:"version,omitempty"` // that it has accepted
	Since    time.Time `json:"since,omitzero"`
	Sent     string    `json:"sent,omitempty"`     // version that it has not answered
	Rejected string    `json:"rejected,omitempty"` // version that it refuses
	Words    string    `json:"words,omitempty"`    // why, in its own words
	Missing  bool      `json:"missing,omitempty"`  // it asks for it, and it is not published
}

// routes is the read-only HTTP of a replica.
func (r *Replica) routes(registry *prometheus.Registry) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "alive\n") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !r.serving.ready() {
			answer(w, http.StatusServiceUnavailable, "not ready: proxies are not let in before all that was served is known\n")
			return
		}
		answer(w, http.StatusOK, "ready\n")
	})
	mux.HandleFunc("GET /proxies", func(w http.ResponseWriter, request *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(r.serving.proxies(request.URL.Query()["name"])); err != nil {
			r.config.Log.Debug("a reader of /proxies went away", "err", err)
		}
	})
	return mux
}

func answer(w http.ResponseWriter, status int, text string) {
	w.WriteHeader(status)
	// A reader that has gone away has no use for the error.
	_, _ = w.Write([]byte(text))
}

// gatewayOf reads a group's name backwards: proxies without ramp layers are in a group of their own.
func gatewayOf(group string) (gateway string, layered bool) {
	gateway, _, plain := strings.Cut(group, "/")
	return gateway, !plain
}

func deadmanText(g policy.Gateway) string {
	text, err := g.Deadman.MarshalText()
	if err != nil {
		return ""
	}
	return string(text)
}

// ready reports whether proxies are let in.
func (s *Serving) ready() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.opened
}

// proxies lists the proxies connected here; if names are given only those, and with all that they have.
func (s *Serving) proxies(names []string) []ProxyView {
	s.mu.Lock()
	gateways := s.state.servedGateways()
	s.mu.Unlock()
	views := []ProxyView{}
	for _, p := range s.xds.Proxies() {
		if len(names) > 0 && !slices.Contains(names, p.Node) {
			continue
		}
		view := viewOf(p, gateways)
		if len(names) > 0 {
			view.Resources = s.resources(p.Stream)
		}
		views = append(views, view)
	}
	return views
}

func viewOf(p xds.Proxy, gateways map[string]policy.Gateway) ProxyView {
	name, layered := gatewayOf(p.Group)
	g, known := gateways[name]
	view := ProxyView{
		Proxy: p.Node, Gateway: name, Version: p.Version, Protocol: p.Protocol.String(), Connected: p.Connected, LastSeen: p.LastSeen, LastReport: p.LastReport,
		Deadman: "no", Known: known, Pending: p.Pending, Duplicate: p.Duplicate && !envoy.OfClients(p.Group), Frozen: p.Frozen, Dated: envoy.Dated(p.Version),
	}
	if known && layered {
		view.Deadman = deadmanText(g)
	}
	for _, rejection := range p.Rejections {
		view.Rejections = append(view.Rejections, rejection.Key.Name+": "+rejection.Words)
	}
	return view
}

func (s *Serving) resources(stream uint64) (views []ResourceView) {
	held, _ := s.xds.Held(stream) // one that has left meanwhile has nothing
	for _, h := range held {
		view := ResourceView{Type: typeWord(h.Type), Name: h.Name, Version: h.Version, Since: h.Since, Sent: h.Sent, Missing: h.Missing}
		if h.Refused != nil {
			view.Rejected, view.Words = h.Refused.Version, h.Refused.Words
		}
		views = append(views, view)
	}
	return views
}

// typeWord is a type URL in one word.
func typeWord(url string) string {
	switch url {
	case xds.ClusterType:
		return "cluster"
	case xds.EndpointType:
		return "endpoints"
	case xds.ListenerType:
		return "listener"
	case xds.RouteType:
		return "routes"
	case xds.RuntimeType:
		return "layer"
	}
	return url[strings.LastIndexByte(url, '.')+1:]
}
