package replica_test

import (
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/rampart-proxy/rampart/envoy"
	"github.com/rampart-proxy/rampart/testenv"
)

// elsewhere is where the Envoys of another zone come from.
const elsewhere = "127.0.0.2"

// gate stands before a model and lets nobody from elsewhere through.
func (r *rig) gate(model *testenv.Model) (address string) {
	r.t.Helper()
	listener := must[net.Listener](r.t)(net.Listen("tcp", "127.0.0.1:0"))
	var passing sync.WaitGroup
	r.t.Cleanup(func() {
		_ = listener.Close()
		passing.Wait()
	})
	passing.Go(func() {
		for {
			user, err := listener.Accept()
			if err != nil {
				return
			}
			passing.Go(func() { pass(user, model.Address()) })
		}
	})
	return listener.Addr().String()
}

// pass brings what is said on a connection to an address and back until either side ends.
func pass(user net.Conn, to string) {
	defer func() { _ = user.Close() }()
	if host, _, err := net.SplitHostPort(user.RemoteAddr().String()); err != nil || host == elsewhere {
		return
	}
	model, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer func() { _ = model.Close() }()
	ended := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{user, model}, {model, user}} {
		go func() {
			_, _ = io.Copy(way[0], way[1]) // its end is the end of the connection, whatever the cause
			ended <- struct{}{}
		}()
	}
	<-ended
}

// envoyElsewhere starts an Envoy of the gateway edge in another zone.
func (r *rig) envoyElsewhere(id string) {
	r.t.Helper()
	bootstrap := must[[]byte](r.t)(envoy.Bootstrap(envoy.BootstrapConfig{Gateway: "edge", ID: id, Servers: r.servers, AdminPort: 1}))
	const place = "cluster_manager:\n"
	moved := strings.Replace(string(bootstrap), place, place+"  upstream_bind_config: {source_address: {address: "+elsewhere+", port_value: 0}}\n", 1)
	r.envoyOf(testenv.EnvoyConfig{Bootstrap: []byte(moved), ID: id})
}

// A zone that cannot reach the candidate, as its own checks have found before the release, has no errors to count: all it does is to send everything to live.
func TestAProxyThatCannotReachTheCandidateIsNamed(t *testing.T) {
	t.Parallel()
	r := newRigIn(t, world{})
	gate := r.gate(r.green)
	document := func(serve string) string {
		// A gate takes its time.
		text := strings.Replace(r.with(serve, half, "analysis: {latency: off}\n"), r.green.Address(), gate, 1)
		return strings.Replace(text, `{revision: "v2",`, `{revision: "v2", health: {path: /},`, 1)
	}
	r.put("services/shop", document("blue"))
	r.envoy("edge", "edge-1")
	r.envoyElsewhere("edge-2")
	r.untilAnswers("v1")
	// So many connections that both Envoys get their part: if nearly all came through edge-2, all proxies together would be as telling as it.
	load := r.loadOf(testenv.LoadConfig{Rate: 200, Lanes: 64})
	r.put("services/shop", document("green"))
	r.untilServed("the release", begun)
	r.put("orders/shop", "advance")
	r.blames("share seen: proxy edge-2 sends green far less than its 50 %")
	if totals := load.Totals(); totals.Failed > 0 {
		t.Errorf("%d of %d requests failed", totals.Failed, totals.Requests)
	}
}
