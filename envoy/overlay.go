package envoy

import (
	"strings"

	runtimev3 "github.com/envoyproxy/go-control-plane/envoy/service/runtime/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/rampart-proxy/rampart/policy"
)

// overlay is a running release's share of its runtime layer. It always holds all three keys, in whole numbers that sum to full weight, so that no mixture of old
// and new names can sum to zero: Envoy would answer 404 (envoy-measured.md §11).
func overlay(s *policy.Served, w policy.Weight) *runtimev3.Runtime {
	service, live := s.Service.Name, s.Live.Backend
	prefix := RuntimePrefix(service) + "."
	return &runtimev3.Runtime{Layer: &structpb.Struct{Fields: map[string]*structpb.Value{
		prefix + Pool(service, live):                                      structpb.NewNumberValue(0),
		prefix + LiveArm(service, live):                                   structpb.NewNumberValue(float64(policy.Full - w)),
		prefix + CandidateArm(service, s.Release.Candidate.Backend, live): structpb.NewNumberValue(float64(w)),
	}}}
}

// layerHead is the beginning of a layer, and all of it while no release runs in it; the releases' keys follow as parts.
func layerHead(name string) *runtimev3.Runtime {
	return &runtimev3.Runtime{Name: name, Layer: &structpb.Struct{}}
}

// Latched names a release that a replica has taken back.
type Latched struct{ Service, Release string }

// tag writes the releases latched in a layer as its version carries them. Services and releases are made of letters, digits and hyphens.
func tag(latched []Latched) string {
	words := make([]string, len(latched))
	for i, l := range latched {
		words[i] = l.Service + ":" + l.Release
	}
	return strings.Join(words, ",")
}

// LatchedIn reads the tag of a layer's version, which proxies bring along to a replica that has not heard of a rollback yet. What is not ours is left out.
func LatchedIn(tag string) []Latched {
	var latched []Latched
	for word := range strings.SplitSeq(tag, ",") {
		service, release, found := strings.Cut(word, ":")
		if found && service != "" && release != "" {
			latched = append(latched, Latched{Service: service, Release: release})
		}
	}
	return latched
}
