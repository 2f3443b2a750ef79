package replica_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/rampart-proxy/rampart/envoy"
	"github.com/rampart-proxy/rampart/testenv"
)

// simple is the document of a service with one backend.
func simple(service, gateway, host, endpoint string) string {
	return fmt.Sprintf("service: %s\ngateways: [%s]\nhosts: [%q]\nbackends: {blue: {revision: v1, endpoints: [%q]}}\nserve: blue\n", service, gateway, host, endpoint)
}

// untilAnswered waits until a host is answered so through a port.
func (r *rig) untilAnswered(port int, host, want string) {
	r.t.Helper()
	r.until(host+" answered by "+want, func() (bool, error) {
		got := r.askAt(port, host)
		return got == want, fmt.Errorf("answered by %s", got)
	})
}

// DESIGN §9: ports in the Host header are ignored; `*` takes what nobody else does; the most specific host wins.
func TestTheMostSpecificHostWinsWhateverThePort(t *testing.T) {
	r := newRig(t)
	third := r.model("v3")
	r.put("services/shop", simple("shop", "edge", "shop.example.com", r.blue.Address()))
	r.put("services/family", simple("family", "edge", "*.example.com", r.green.Address()))
	r.envoy("edge", "edge-1")
	r.untilAnswered(r.port, "shop.example.com", "v1")
	r.untilAnswered(r.port, "a.example.com", "v2")
	if got := r.ask("example.org"); got != "404 Not Found" {
		t.Errorf("a host of nobody's is answered by %s", got)
	}
	r.put("services/rest", simple("rest", "edge", "*", third.Address()))
	r.untilAnswered(r.port, "example.org", "v3")
	for host, want := range map[string]string{
		"shop.example.com": "v1", "shop.example.com:8080": "v1", "SHOP.example.com": "v1",
		"a.example.com": "v2", "a.example.com:443": "v2", "a.b.example.com": "v2", "a.shop.example.com": "v2",
		"example.com": "v3", "example.com:80": "v3", "127.0.0.1:1": "v3",
	} {
		if got := r.ask(host); got != want {
			t.Errorf("%s is answered by %s, want %s", host, got, want)
		}
	}
}

// The server of a WebSocket says something by itself once a tick. So many of them last longer than its route's timeout.
const (
	tick  = 100 * time.Millisecond
	ticks = 25
)

// echo is an upstream that switches protocols, says "tick" by itself, and repeats each line.
func echo(t *testing.T) *httptest.Server {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		if request.Header.Get("Upgrade") != "websocket" {
			http.Error(w, "expected an upgrade", http.StatusUpgradeRequired)
			return
		}
		connection, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = connection.Close() }()
		_, _ = io.WriteString(connection, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		go func() {
			every := time.NewTicker(tick)
			defer every.Stop()
			for range every.C {
				if _, err := io.WriteString(connection, "tick\n"); err != nil {
					return // the connection is closed
				}
			}
		}()
		_, _ = io.Copy(connection, buffered)
	}))
	t.Cleanup(server.Close)
	return server
}

// DESIGN §9: WebSocket upgrades pass. One that is open stays so past the timeout of its route, and while the service's document changes.
func TestAWebSocketPassesAndStaysOpen(t *testing.T) {
	r := newRig(t)
	upstream := echo(t).Listener.Addr().String()
	document := simple("talk", "edge", "talk.example.com", upstream) + "routes: [{match: {prefix: /}, timeout: 1s}]\n"
	r.put("services/talk", document)
	r.envoy("edge", "edge-1")
	r.untilAnswered(r.port, "talk.example.com", "426 Upgrade Required")

	connection := must[net.Conn](t)(net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.port)))
	defer func() { _ = connection.Close() }()
	if err := connection.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	_ = must[int](t)(io.WriteString(connection, "GET /talk HTTP/1.1\r\nHost: talk.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"))
	from := bufio.NewReader(connection)
	answer := must[*http.Response](t)(http.ReadResponse(from, nil))
	if answer.StatusCode != http.StatusSwitchingProtocols || !strings.EqualFold(answer.Header.Get("Upgrade"), "websocket") {
		t.Fatalf("%s, upgrade %q", answer.Status, answer.Header.Get("Upgrade"))
	}
	r.put("services/talk", strings.ReplaceAll(document, "talk.example.com", "chat.example.com"))
	r.untilAnswered(r.port, "chat.example.com", "426 Upgrade Required")
	for heard, asked := 0, false; heard < ticks; {
		line := must[string](t)(from.ReadString('\n'))
		switch {
		case line == "tick\n":
			heard++
		case line == "how are you?\n" && asked:
			asked = false
			continue
		default:
			t.Fatalf("it said %q", line)
		}
		if heard%10 == 0 {
			_, asked = must[int](t)(io.WriteString(connection, "how are you?\n")), true
		}
		if heard == ticks && asked {
			t.Fatal("what was sent does not come back")
		}
	}
}

// ownListener is a listener in an Envoy's own bootstrap that has the gateway's routes.
const ownListener = `static_resources:
  listeners:
    - name: own
      address: {socket_address: {address: 127.0.0.1, port_value: %d}}
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: own
                rds: {route_config_name: "inner", config_source: {ads: {}, resource_api_version: V3}}
                http_filters:
                  - name: envoy.filters.http.router
                    typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
`

// DESIGN §9: `listeners: []` is legal; the RouteConfiguration has the gateway's name, for listeners that are not ours. They follow a release like ours.
func TestAListenerOfTheUsersOwnFollowsAReleaseOfItsGateway(t *testing.T) {
	r := newRig(t)
	r.port = must[int](t)(testenv.FreePort())
	r.put("gateways/inner", "gateway: inner\nlisteners: []\n")
	document := func(serve string) string { return strings.Replace(r.document(serve), "[edge]", "[inner]", 1) }
	r.put("services/shop", document("blue"))
	snippet := must[[]byte](t)(envoy.Bootstrap(envoy.BootstrapConfig{Gateway: "inner", ID: "inner-1", Servers: r.servers, Snippet: true}))
	// Latency is judged here, so the user has taken the sink along.
	ours, sink, found := strings.Cut(string(snippet), "# stats_flush_interval:")
	if !found {
		t.Fatal("the snippet offers no sink")
	}
	merged := strings.Replace(ours, "static_resources:\n", fmt.Sprintf(ownListener, r.port), 1) + strings.ReplaceAll("# stats_flush_interval:"+sink, "# ", "")
	r.envoyOf(testenv.EnvoyConfig{Bootstrap: []byte(merged), ID: "inner-1"})
	r.untilAnswers("v1")
	load := r.load(200)
	r.put("services/shop", document("green"))
	r.untilServed("the release", begun)
	r.put("orders/shop", "advance")
	r.untilServed("the commit", committed)
	r.untilAnswers("v2")
	if totals := load.Totals(); totals.Failed > 0 {
		t.Errorf("%d of %d requests failed", totals.Failed, totals.Requests)
	}
	if p := r.proxies(0); len(p) != 1 || p[0].Gateway != "inner" || len(p[0].Rejections) > 0 {
		t.Errorf("proxies: %+v", p)
	}
}

// DESIGN §9: the proxies of a gateway whose document is deleted keep what was served.
func TestADeletedGatewaysProxiesKeepWhatWasServed(t *testing.T) {
	r := newRig(t)
	r.put("services/shop", r.document("blue"))
	r.envoy("edge", "edge-1")
	port := must[int](t)(testenv.FreePort())
	r.put("gateways/side", fmt.Sprintf("gateway: side\nlisteners: [{address: 127.0.0.1, port: %d}]\n", port))
	side := simple("cart", "side", "cart.example.com", r.blue.Address())
	r.put("services/cart", side)
	r.envoy("side", "side-1")
	r.untilAnswers("v1")
	r.untilAnswered(port, "cart.example.com", "v1")

	// While a service names it, the deletion is refused.
	r.unchanged(func() {
		r.del("gateways/side")
		r.until("a refusal that names the service", func() (bool, error) {
			said := r.value("served/gateways/side")
			return strings.Contains(said, "(cart)"), fmt.Errorf("it says %q", said)
		})
		if got := r.askAt(port, "cart.example.com"); got != "v1" {
			t.Errorf("through the refused gateway answers %s", got)
		}
	})
	document := fmt.Sprintf("gateway: side\nlisteners: [{address: 127.0.0.1, port: %d}]\n# again\n", port)
	r.put("gateways/side", document)
	r.put("services/cart", strings.Replace(side, "[side]", "[edge]", 1))
	r.untilAnswered(r.port, "cart.example.com", "v1")
	r.untilAnswered(port, "cart.example.com", "404 Not Found")

	served, before := r.value("served/gateways/side"), r.picture(r.envoys)
	r.del("gateways/side")
	r.until("the deletion taken up", func() (bool, error) { return r.value("served/gateways/side") != served, nil })
	cart := r.value("served/services/cart")
	r.put("services/cart", strings.Replace(side, "[side]", "[edge]", 1)+"# the leader works on\n")
	r.until("the leader working on", func() (bool, error) { return r.value("served/services/cart") != cart, nil })
	before.served = r.picture(nil).served
	r.same(before)
	if got := r.askAt(port, "cart.example.com"); got != "404 Not Found" {
		t.Errorf("through the deleted gateway answers %s", got)
	}
}
