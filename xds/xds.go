// Package xds speaks Envoy's configuration protocol: aggregated streams in both protocols, their
// subscriptions, nonces and answers, and the broadcast of what changed.
//
// It promises: a change costs what changed times who wants it, each resource is encoded once for
// all streams that get it whole; a stream that is slow, silent or broken costs only itself; every
// subscription is answered; nothing older than what a proxy holds is sent to it; a version that a
// proxy rejected is not sent to it again; a proxy is told of a weight or a route only when it has
// the clusters behind it; and a resource with a TTL is kept alive only while somebody proves that
// what it stands for may go on.
//
// It knows resources, needs and proofs, and nothing of services or releases.
package xds

import (
	"log/slog"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
)

// The types that are ordered within a stream: clusters go first, the runtime layers that shift
// traffic last. Other types may be published too and follow them.
const (
	ClusterType  = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
	EndpointType = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
	ListenerType = "type.googleapis.com/envoy.config.listener.v3.Listener"
	RouteType    = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
	RuntimeType  = "type.googleapis.com/envoy.service.runtime.v3.Runtime"
)

// Key names a resource within a group. An endpoint resource has the name of its cluster.
type Key struct{ Type, Name string }

// Need is what a stream must have before a Part is sent to it. The zero Accepted asks that the
// resource was sent on this stream and not rejected; true asks that some version of it was ACKed by
// this stream. What a proxy names in initial_resource_versions counts as ACKed.
type Need struct {
	Key
	Accepted bool
}

// Part is a piece of a resource that goes only to streams that meet its Needs. A stream that has the
// part of that Name in a former content keeps it until it meets the Needs of the new one, and keeps
// the clusters that the former one needed; not in a resource with a TTL, where what was before must
// not outlive what is now. An empty Name is never kept.
type Part struct {
	Name  string
	Body  []byte
	Needs []Need
}

// Resource is what a group's proxies get under one name. Its slices belong to the server once
// published and must not change.
type Resource struct {
	Key
	// Body is the serialised message, the Any's value; with Parts it is the common beginning.
	Body []byte
	// Parts follow the Body where their Needs are met: protobuf merges concatenated messages.
	// Streams that get all of them share one encoded response.
	Parts []Part
	// TTL above zero makes the resource a dead-man switch: it is sent with this time to live, and
	// heartbeaten every third of it while proof is fresh. A stream that gets none of a resource's
	// Parts gets no TTL either, there is nothing to take back.
	TTL time.Duration
	// Tag is appended to the version, and handed to Config.Held by whichever server a proxy brings
	// that version to.
	Tag string
}

// Update changes what one group gets. What is set in it together is seen together.
type Update struct {
	Group  string
	Set    []Resource
	Remove []Key
	// Urgent weights overtake everything that waits to be sent, and what a stream has not answered
	// yet: they take traffic back.
	Urgent bool
}

// Config is what a Server is made of. Cluster, Group and Now are required.
type Config struct {
	// Cluster is the etcd cluster's id, the first part of every version.
	Cluster string
	// Group tells which group's resources a proxy gets. It is asked once per stream, with the
	// stream's first node, less its extensions.
	Group func(*corev3.Node, Protocol) string
	// Held is told of each tag that proxies bring along in versions of this or an adopted cluster,
	// before they are answered. It may publish. May be nil.
	Held func(key Key, tag string)
	Now  func() time.Time
	Log  *slog.Logger
	// Grace is how long a cluster or its endpoints stay after the proxy ACKed routes and layers
	// that no longer need them. Default 5 s.
	Grace  time.Duration
	Limits Limits
	// Events is told what happens on streams, for metrics. It is called on the stream's goroutines
	// and must be cheap. May be nil.
	Events func(Event)
}

// EventKind says what an Event tells of.
type EventKind int

// The kinds of events.
const (
	ProxyConnected EventKind = iota + 1
	ProxyDisconnected
	ResponseSent
	ResponseAccepted
	ResponseRejected
	LimitExceeded
)

// Event is one thing that happened on a stream. Type and Heartbeat are of responses only; Took is
// from a response to its answer.
type Event struct {
	Kind        EventKind
	Node, Group string
	Version     string // of a proxy that connected, as in Proxy
	Type        string
	Heartbeat   bool
	Took        time.Duration
	Words       string // of a proxy that disconnected: why the server ended its stream; empty: it did itself. Of a limit: the error. Of a rejection: the proxy's own
	Limit       string // that was exceeded: a field of Limits in small letters, "silence" where no answer came in time, "reading" where nothing was read
}

// Requirement asks that a proxy has ACKed a resource, with all its parts, as it was published at
// Revision or later.
type Requirement struct {
	Key
	Revision int64
	// Given makes it one of proxies that ask for this resource only; zero: of all. A proxy that none
	// of several requirements is for does not count.
	Given Key
}

// Standing is how far a group's proxies have come with some Requirements.
type Standing struct {
	Connected, Met, Rejected int
	Waiting                  []Proxy   // up to three that do not meet them, the longest connected first
	LastAck                  time.Time // the newest by those that meet them or, where only a layer is lacking, of the rest
}

// Rejection is a version that a proxy refused, in the proxy's own words.
type Rejection struct {
	Key
	Version, Words string
}

// Proxy is one stream and the proxy behind it.
type Proxy struct {
	Stream      uint64
	Node, Group string
	Version     string // "Envoy 1.40.0"
	Protocol    Protocol
	Connected   time.Time
	LastSeen    time.Time // anything at all from this node, on whatever stream
	LastReport  time.Time // anything from this node on a stream that is not ours; zero: nothing yet
	Layers      int       // runtime layers it subscribed to
	Rejections  []Rejection
	Frozen      string // why nothing is sent to it; empty: it is served
	Pending     int    // responses it has not answered
	Duplicate   bool   // another stream has the same node id
}
