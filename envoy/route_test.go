package envoy

import (
	"testing"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/rampart-proxy/rampart/policy"
)

func hostOf(routes ...policy.Route) *routev3.VirtualHost {
	s := shop()
	s.Service.Routes = routes
	s.Service = s.Service.WithDefaults()
	return virtualHost(s.Service, safeBase(s, State{}))
}

func seconds(n int) *policy.Duration {
	d := policy.Duration(time.Duration(n) * time.Second)
	return &d
}

func TestOnlyIdempotentRoutesRepeatWhatReachedTheApplication(t *testing.T) {
	routes := hostOf(policy.Route{Idempotent: true, Timeout: seconds(4)}, policy.Route{}).GetRoutes()
	idempotent, other := routes[0].GetRoute(), routes[1].GetRoute()
	same(t, "idempotent", idempotent.GetRetryPolicy().GetRetryOn(), "5xx,reset,connect-failure,refused-stream,unavailable")
	same(t, "idempotent try", idempotent.GetRetryPolicy().GetPerTryTimeout().AsDuration(), 2*time.Second)
	same(t, "other", other.GetRetryPolicy().GetRetryOn(), "connect-failure,refused-stream,reset-before-request")
	if other.GetRetryPolicy().GetPerTryTimeout() != nil {
		t.Error("a try that may not be repeated is cut short")
	}
	for _, p := range []*routev3.RetryPolicy{idempotent.GetRetryPolicy(), other.GetRetryPolicy()} {
		if p.GetNumRetries().GetValue() != 1 || p.GetRetryPriority().GetName() != "envoy.retry_priorities.previous_priorities" {
			t.Errorf("retries: %v", p)
		}
	}
	same(t, "default timeout", other.GetTimeout().AsDuration(), 15*time.Second)
}

// DESIGN §9: `timeout: 0s` is none.
func TestARouteWithoutATimeoutNeverCutsAStream(t *testing.T) {
	a := hostOf(policy.Route{Timeout: seconds(0), Idempotent: true}).GetRoutes()[0].GetRoute()
	if a.GetTimeout() == nil || a.GetTimeout().AsDuration() != 0 || a.GetIdleTimeout() == nil || a.GetIdleTimeout().AsDuration() != 0 {
		t.Errorf("timeouts: %v", a)
	}
	if a.GetRetryPolicy().GetPerTryTimeout() != nil {
		t.Errorf("a try is cut: %v", a.GetRetryPolicy())
	}
	long := hostOf(policy.Route{Timeout: seconds(3600)}).GetRoutes()[0].GetRoute()
	if long.GetIdleTimeout().AsDuration() <= time.Hour {
		t.Errorf("an hour's route idles for %s only", long.GetIdleTimeout().AsDuration())
	}
	if hostOf(policy.Route{}).GetRoutes()[0].GetRoute().GetIdleTimeout() != nil {
		t.Error("an ordinary route leaves the idle timeout to its listener")
	}
}

func TestRoutesKeepTheirOrderAndMatch(t *testing.T) {
	routes := hostOf(
		policy.Route{Match: policy.Match{Path: "/exact"}},
		policy.Route{Match: policy.Match{Prefix: "/api", Methods: []string{"GET", "POST"}, Headers: map[string]string{"X-Tier": "gold", "a": "b"}}},
		policy.Route{Match: policy.Match{Methods: []string{"GET"}}},
		policy.Route{},
	).GetRoutes()
	same(t, "exact", routes[0].GetMatch().GetPath(), "/exact")
	api := routes[1].GetMatch()
	same(t, "prefix", api.GetPrefix(), "/api")
	same(t, "methods", api.GetHeaders()[0].GetStringMatch().GetSafeRegex().GetRegex(), "GET|POST")
	same(t, "first header", api.GetHeaders()[1].GetName()+"="+api.GetHeaders()[1].GetStringMatch().GetExact(), "a=b")
	same(t, "second header", api.GetHeaders()[2].GetName()+"="+api.GetHeaders()[2].GetStringMatch().GetExact(), "x-tier=gold")
	same(t, "one method", routes[2].GetMatch().GetHeaders()[0].GetStringMatch().GetExact(), "GET")
	same(t, "everything", routes[3].GetMatch().GetPrefix(), "/")
}

func TestHostsAreWrittenOnceInLowerCase(t *testing.T) {
	same(t, "domains", domains([]string{"Shop.Example.com", "shop.example.com", "*.example.com", "*"}), []string{"shop.example.com", "*.example.com", "*"})
}

func TestHealthChecksNameAHostThatTheServiceAnswersTo(t *testing.T) {
	for first, want := range map[string]string{"shop.example.com": "shop.example.com", "*.example.com": "example.com", "*": "shop"} {
		same(t, first, healthHost(policy.Service{Name: "shop", Hosts: []string{first}}), want)
	}
}
