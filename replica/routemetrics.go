package replica

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rampart-proxy/rampart/envoy"
)

// routeMetrics tell what pushes of gateways' routes cost: they go whole.
type routeMetrics struct{ pushes, bytes, services *prometheus.CounterVec }

func (m *routeMetrics) register(r prometheus.Registerer) {
	counter := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{"gateway"})
	}
	m.pushes = counter("rampart_routes_pushes_total", "Pushes of a gateway's routes, which go whole, by gateway.")
	m.bytes = counter("rampart_routes_pushed_bytes_total", "Bytes of pushed routes, times the proxies that got them, by gateway.")
	m.services = counter("rampart_routes_pushed_services_total", "Services whose changed routes went in pushes, by gateway.")
	r.MustRegister(m.pushes, m.bytes, m.services)
}

func (m *routeMetrics) pushed(p envoy.RoutesPush, proxies int) {
	m.pushes.WithLabelValues(p.Gateway).Inc()
	m.bytes.WithLabelValues(p.Gateway).Add(float64(p.Bytes * proxies))
	m.services.WithLabelValues(p.Gateway).Add(float64(p.Services))
}
