package xds

import (
	"context"
	"errors"
	"io"
	"strings"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	statusv3 "github.com/envoyproxy/go-control-plane/envoy/service/status/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// What bounds one answer about proxies.
const (
	mostConfigs = 100_000  // resources
	mostBytes   = 64 << 20 // of their contents
)

// csds is the client status discovery service, by which standard tools ask what proxies have.
type csds struct{ server *Server }

// registerStatus offers the client status discovery service.
func (s *Server) registerStatus(to grpc.ServiceRegistrar) {
	statusv3.RegisterClientStatusDiscoveryServiceServer(to, csds{s})
}

// StreamClientStatus answers each request.
func (c csds) StreamClientStatus(on statusv3.ClientStatusDiscoveryService_StreamClientStatusServer) error {
	for {
		r, err := on.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		answer, err := c.FetchClientStatus(on.Context(), r)
		if err != nil {
			return err
		}
		if err := on.Send(answer); err != nil {
			return err
		}
	}
}

// FetchClientStatus tells what the proxies have whose node ids match; without a matcher, all. Answers are large, so they are made one after the other.
func (c csds) FetchClientStatus(ctx context.Context, r *statusv3.ClientStatusRequest) (answer *statusv3.ClientStatusResponse, err error) {
	if err := c.server.answering.Acquire(ctx, 1); err != nil {
		return nil, status.FromContextError(err).Err()
	}
	defer c.server.answering.Release(1)
	err = c.server.contain("", func() (err error) { answer, err = c.answer(r); return err })
	return answer, err
}

func (c csds) answer(r *statusv3.ClientStatusRequest) (*statusv3.ClientStatusResponse, error) {
	for _, m := range r.NodeMatchers {
		if len(m.NodeMetadatas) > 0 || !knownMatcher(m.NodeId) {
			return nil, status.Error(codes.InvalidArgument, "node_matchers: expected node_id with exact, prefix, suffix or contains")
		}
	}
	answer, configs, bytes := &statusv3.ClientStatusResponse{}, 0, 0
	for _, p := range c.server.Proxies() {
		if !matchesAny(r.NodeMatchers, p.Node) {
			continue
		}
		held, there := c.server.Held(p.Stream)
		if configs += len(held); configs > mostConfigs {
			return nil, status.Errorf(codes.ResourceExhausted, "more than %d resources: name fewer proxies with node_matchers", mostConfigs)
		}
		if !r.ExcludeResourceContents {
			bytes += sizeOf(held)
		}
		if bytes > mostBytes {
			return nil, status.Errorf(codes.ResourceExhausted, "more than %d bytes of resources: name fewer proxies with node_matchers, or set exclude_resource_contents", mostBytes)
		}
		if there {
			answer.Config = append(answer.Config, clientConfig(p, held, !r.ExcludeResourceContents))
		}
	}
	return answer, nil
}

// sizeOf is how many bytes the resources have that a proxy holds.
func sizeOf(held []Held) (bytes int) {
	for _, h := range held {
		if h.has != nil {
			bytes += h.has.valueSize()
		}
	}
	return bytes
}

func clientConfig(p Proxy, held []Held, contents bool) *statusv3.ClientConfig {
	client := &statusv3.ClientConfig{Node: &corev3.Node{Id: p.Node, Cluster: p.Group}}
	name, version, known := strings.Cut(p.Version, " ")
	if client.Node.UserAgentName = name; name == "Envoy" {
		client.Node.UserAgentName = "envoy" // as it calls itself
	}
	if known {
		client.Node.UserAgentVersionType = &corev3.Node_UserAgentVersion{UserAgentVersion: version}
	}
	for _, h := range held {
		one := &statusv3.ClientConfig_GenericXdsConfig{TypeUrl: h.Type, Name: h.Name, VersionInfo: h.Version}
		one.ConfigStatus, one.ClientStatus = statusOf(h)
		if h.has != nil {
			one.LastUpdated = timestamppb.New(h.Since)
		}
		if h.has != nil && contents {
			one.XdsConfig = &anypb.Any{TypeUrl: h.Type, Value: h.has.value()}
		}
		if h.Refused != nil {
			one.ErrorState = &adminv3.UpdateFailureState{Details: h.Refused.Words, VersionInfo: h.Refused.Version}
		}
		client.GenericXdsConfigs = append(client.GenericXdsConfigs, one)
	}
	return client
}

// statusOf is how this server and its proxy stand about a resource.
func statusOf(h Held) (statusv3.ConfigStatus, adminv3.ClientResourceStatus) {
	switch {
	case h.Refused != nil:
		return statusv3.ConfigStatus_ERROR, adminv3.ClientResourceStatus_NACKED
	case h.Missing && h.has == nil:
		return statusv3.ConfigStatus_NOT_SENT, adminv3.ClientResourceStatus_DOES_NOT_EXIST
	case h.Sent != "":
		return statusv3.ConfigStatus_STALE, adminv3.ClientResourceStatus_REQUESTED
	case h.has == nil:
		return statusv3.ConfigStatus_NOT_SENT, adminv3.ClientResourceStatus_REQUESTED
	}
	return statusv3.ConfigStatus_SYNCED, adminv3.ClientResourceStatus_ACKED
}

func matchesAny(matchers []*matcherv3.NodeMatcher, node string) bool {
	for _, m := range matchers {
		if matches(m.NodeId, node) {
			return true
		}
	}
	return len(matchers) == 0
}

func knownMatcher(m *matcherv3.StringMatcher) bool {
	switch m.GetMatchPattern().(type) {
	case *matcherv3.StringMatcher_Exact, *matcherv3.StringMatcher_Prefix, *matcherv3.StringMatcher_Suffix, *matcherv3.StringMatcher_Contains:
		return true
	}
	return false
}

func matches(m *matcherv3.StringMatcher, text string) bool {
	fold := func(s string) string {
		if m.IgnoreCase {
			return strings.ToLower(s)
		}
		return s
	}
	text = fold(text)
	switch p := m.MatchPattern.(type) {
	case *matcherv3.StringMatcher_Exact:
		return text == fold(p.Exact)
	case *matcherv3.StringMatcher_Prefix:
		return strings.HasPrefix(text, fold(p.Prefix))
	case *matcherv3.StringMatcher_Suffix:
		return strings.HasSuffix(text, fold(p.Suffix))
	case *matcherv3.StringMatcher_Contains:
		return strings.Contains(text, fold(p.Contains))
	}
	return false
}
