package replica

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/rampart-proxy/rampart/envoy"
	"github.com/rampart-proxy/rampart/policy"
)

// ProxyView is one proxy as /proxies tells of it.
type ProxyView struct {
	Proxy      string    `json:"proxy"`
	Gateway    string    `json:"gateway"`
	Version    string    `json:"version"`
	Connected  time.Time `json:"connected"`
	LastSeen   time.Time `json:"lastSeen"`
	Deadman    string    `json:"deadman"`             // "15s", "off", or "no" for a proxy without ramp layers
	Known      bool      `json:"known"`               // its gateway exists
	Pending    int       `json:"pending"`             // responses it has not answered
	Duplicate  bool      `json:"duplicate,omitempty"` // another Envoy has the same node id; a gRPC client has a stream for each service it uses
	Frozen     string    `json:"frozen,omitempty"`
	Dated      string    `json:"dated,omitempty"` // what its version lacks
	Rejections []string  `json:"rejections,omitempty"`
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
	mux.HandleFunc("GET /proxies", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(r.serving.proxies()); err != nil {
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

// proxies lists the proxies connected here.
func (s *Serving) proxies() []ProxyView {
	s.mu.Lock()
	gateways := s.state.servedGateways()
	s.mu.Unlock()
	views := []ProxyView{}
	for _, p := range s.xds.Proxies() {
		name, layered := gatewayOf(p.Group)
		g, known := gateways[name]
		view := ProxyView{
			Proxy: p.Node, Gateway: name, Version: p.Version, Connected: p.Connected, LastSeen: p.LastSeen, Deadman: "no",
			Known: known, Pending: p.Pending, Duplicate: p.Duplicate && !envoy.OfClients(p.Group), Frozen: p.Frozen, Dated: envoy.Dated(p.Version),
		}
		if known && layered {
			view.Deadman = deadmanText(g)
		}
		for _, rejection := range p.Rejections {
			view.Rejections = append(view.Rejections, rejection.Key.Name+": "+rejection.Words)
		}
		views = append(views, view)
	}
	return views
}
