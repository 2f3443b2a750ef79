package xds

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	statusv3 "github.com/envoyproxy/go-control-plane/envoy/service/status/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// holder is a proxy that has accepted a, was sent a newer b, rejects the routes, and asks for what is not there.
func holder(r *rig) *client {
	r.set(11, cluster("a", "1"), cluster("b", "1"), route("good"))
	c := r.client("n1")
	c.ask(ClusterType)
	c.take("Cluster a=1 b=1")
	c.ask(EndpointType, "a")
	c.take("ClusterLoadAssignment -a")
	c.ask(RouteType, "edge")
	c.take("RouteConfiguration edge=good")
	r.set(12, cluster("b", "2"), route("bad"))
	c.expect("Cluster b=2")
	c.nack(c.expect("RouteConfiguration edge=bad"), "no such cluster")
	synctest.Wait()
	return c
}

func TestWhatAProxyHasIsToldResourceByResource(t *testing.T) {
	opened(t, func(r *rig) {
		holder(r)
		held, found := r.s.Held(r.s.Proxies()[0].Stream)
		if !found {
			t.Fatal("the stream is not found")
		}
		var got []string
		for _, h := range held {
			words := []string{h.Type[strings.LastIndexByte(h.Type, '.')+1:], h.Name, h.Version[:min(5, len(h.Version))], h.Sent[:min(5, len(h.Sent))]}
			if h.Refused != nil {
				words = append(words, h.Refused.Version[:5], h.Refused.Words)
			}
			if h.Missing {
				words = append(words, "missing")
			}
			got = append(got, strings.Join(words, ","))
		}
		want := []string{
			"Cluster,a,c1.11,", "Cluster,b,c1.11,c1.12", "ClusterLoadAssignment,a,,,missing", "RouteConfiguration,edge,c1.11,,c1.12,no such cluster",
		}
		if !slices.Equal(got, want) {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if _, found := r.s.Held(99); found {
			t.Error("a stream was found that never was")
		}
	})
}

func TestStandardToolsAreToldWhatProxiesHave(t *testing.T) {
	opened(t, func(r *rig) {
		holder(r)
		r.client("other").ask(ListenerType)
		synctest.Wait()
		tool := statusv3.NewClientStatusDiscoveryServiceClient(r.conn)
		ask := func(matcher *matcherv3.StringMatcher) (*statusv3.ClientStatusResponse, error) {
			return tool.FetchClientStatus(r.t.Context(), &statusv3.ClientStatusRequest{NodeMatchers: []*matcherv3.NodeMatcher{{NodeId: matcher}}})
		}
		answer, err := ask(&matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: "n1"}})
		if err != nil || len(answer.Config) != 1 {
			t.Fatalf("%v, %v", answer, err)
		}
		var got []string
		for _, c := range answer.Config[0].GenericXdsConfigs {
			got = append(got, fmt.Sprint(c.Name, " ", c.ConfigStatus, " ", c.ClientStatus, " ", string(c.XdsConfig.GetValue()), " ", c.ErrorState.GetDetails()))
			if has := c.XdsConfig != nil; has != (c.VersionInfo != "") || has != (c.LastUpdated != nil) || has && c.LastUpdated.AsTime().After(time.Now()) {
				t.Errorf("%s has version %q since %v", c.Name, c.VersionInfo, c.LastUpdated)
			}
		}
		if want := []string{"a SYNCED ACKED 1 ", "b STALE REQUESTED 1 ", "a NOT_SENT DOES_NOT_EXIST  ", "edge ERROR NACKED good no such cluster"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		if node := answer.Config[0].Node; node.Id != "n1" || node.Cluster != "edge" || node.UserAgentName != "envoy" || node.GetUserAgentVersion() != "1.40.0" {
			t.Errorf("of node %v", node)
		}
		_, err = ask(&matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{}})
		if status.Code(err) != codes.InvalidArgument {
			t.Errorf("a regular expression: %v", err)
		}
		all, err := tool.FetchClientStatus(r.t.Context(), &statusv3.ClientStatusRequest{ExcludeResourceContents: true})
		if err != nil || len(all.Config) != 2 || all.Config[0].GenericXdsConfigs[0].XdsConfig != nil {
			t.Errorf("all: %v, %v", all, err)
		}
	})
}

// Each request on a stream is answered with what proxies have by then, until the tool has asked its last.
func TestStandardToolsAreToldAgainOnTheirStream(t *testing.T) {
	opened(t, func(r *rig) {
		holder(r)
		stream, err := statusv3.NewClientStatusDiscoveryServiceClient(r.conn).StreamClientStatus(r.t.Context())
		if err != nil {
			r.t.Fatal(err)
		}
		ask := func(matcher *matcherv3.StringMatcher) (*statusv3.ClientStatusResponse, error) {
			synctest.Wait()
			if err := stream.Send(&statusv3.ClientStatusRequest{NodeMatchers: []*matcherv3.NodeMatcher{{NodeId: matcher}}}); err != nil {
				r.t.Fatal(err)
			}
			return stream.Recv()
		}
		anyone := &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: ""}}
		if answer, err := ask(anyone); err != nil || len(answer.Config) != 1 || answer.Config[0].Node.Id != "n1" || answer.Config[0].Node.Cluster != "edge" {
			r.t.Errorf("one proxy: %v, %v", answer, err)
		}
		r.client("other").ask(ListenerType)
		if answer, err := ask(anyone); err != nil || len(answer.Config) != 2 {
			r.t.Errorf("two proxies: %v, %v", answer, err)
		}
		if err := stream.CloseSend(); err != nil {
			r.t.Fatal(err)
		}
		if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
			r.t.Errorf("a stream that asks no more ends with %v", err)
		}
		stream, err = statusv3.NewClientStatusDiscoveryServiceClient(r.conn).StreamClientStatus(r.t.Context())
		if err != nil {
			r.t.Fatal(err)
		}
		if _, err := ask(&matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{}}); status.Code(err) != codes.InvalidArgument {
			r.t.Errorf("a regular expression: %v", err)
		}
	})
}

func TestAnAnswerToStandardToolsIsBounded(t *testing.T) {
	opened(t, func(r *rig) {
		r.set(11, cluster("big", strings.Repeat("x", mostBytes/8)))
		for i := range 9 {
			c := r.client(fmt.Sprint("n", i))
			c.ask(ClusterType)
			c.ack(c.next())
		}
		synctest.Wait()
		tool := statusv3.NewClientStatusDiscoveryServiceClient(r.conn)
		if _, err := tool.FetchClientStatus(r.t.Context(), &statusv3.ClientStatusRequest{}); status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "exclude_resource_contents") {
			t.Errorf("too much is answered with %v", status.Code(err))
		}
		bare, err := tool.FetchClientStatus(r.t.Context(), &statusv3.ClientStatusRequest{ExcludeResourceContents: true})
		if err != nil || len(bare.Config) != 9 {
			t.Errorf("without contents: %d, %v", len(bare.GetConfig()), err)
		}
	})
}

func TestADrainSendsProxiesAwayAFewAtATime(t *testing.T) {
	opened(t, func(r *rig) {
		var clients []*client
		for i := range 100 {
			c := r.client(fmt.Sprint("n", i))
			c.ask(ClusterType)
			c.take("Cluster")
			clients = append(clients, c)
		}
		done := make(chan struct{})
		go func() { r.s.Drain(context.Background(), 3*time.Second); close(done) }()
		for second := range 3 {
			time.Sleep(time.Second)
			synctest.Wait()
			left := len(r.s.Proxies())
			if want := 100 - 34*(second+1); left < want-3 || left > want+5 {
				t.Errorf("after %d s %d proxies are left", second+1, left)
			}
		}
		<-done
		for _, c := range clients {
			wantEnd(t, c, codes.DeadlineExceeded, "")
		}
		if told := r.disconnections(); len(told) != 100 || !strings.Contains(told[0], "another one goes on") {
			t.Errorf("%d were told %q", len(told), told)
		}
		wantEnd(t, r.client("late"), codes.Unavailable, "shutting down")
	})
}

func TestAPanicWhileAToolIsAnsweredEndsItsCallOnly(t *testing.T) {
	opened(t, func(r *rig) {
		holder(r)
		synctest.Wait()
		broken := r.s.all()[0]
		broken.mu.Lock()
		broken.sessions[0].types = append(broken.sessions[0].types, nil)
		broken.mu.Unlock()
		tool := statusv3.NewClientStatusDiscoveryServiceClient(r.conn)
		for range 2 {
			if _, err := tool.FetchClientStatus(r.t.Context(), &statusv3.ClientStatusRequest{}); status.Code(err) != codes.Internal || !strings.Contains(err.Error(), "bug in the server") {
				t.Errorf("got %v", err)
			}
		}
	})
}
