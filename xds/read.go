package xds

import (
	"fmt"
	"unicode/utf8"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// request is one message of a proxy, of either protocol. Names are not taken out of it: an Envoy with 10,000 services names 20,000 resources when it comes, and
// thousands of Envoys name the same. It is good until free.
type request struct {
	protocol Protocol // fixed by who receives

	typeURL  string
	nonce    []byte // of data
	version  []byte // of data; the state of the world only
	rejected bool
	words    []byte // of data: what it says of a rejection
	node     []byte // of data; empty: none

	data        [][]byte        // whole fields in each
	buffers     mem.BufferSlice // where data lies, unless it was copied
	onePiece    [1][]byte       // where data begins, and
	oneBuffer   [1]mem.Buffer   // where buffers does: most messages lie in one
	subscribe   int             // how many names it subscribes to; in the state of the world, names at all
	everything  bool            // one of them is the wildcard
	unsubscribe int
	versions    int
	longest     int // bytes of its longest name; its type URL is one

	tally
}

// newRequest has room for a message of a proxy.
func (s *Server) newRequest(p Protocol) *request {
	return &request{protocol: p, tally: tally{server: s}}
}

func (r *request) free() {
	r.buffers.Free()
	*r = request{protocol: r.protocol, tally: tally{server: r.server}}
}

// read reads the fields of data.
func (r *request) read() error {
	defer r.made()
	return r.each(r.field)
}

// field takes in one field of the message.
func (r *request) field(n protowire.Number, t protowire.Type, value []byte) error {
	switch {
	case t != protowire.BytesType:
		return nil
	case r.protocol == StateOfTheWorld:
		return r.worldField(n, value)
	}
	return r.deltaField(n, value)
}

func (r *request) deltaField(n protowire.Number, value []byte) error {
	switch n {
	case fieldNode:
		r.node = value
	case deltaType:
		return r.typed(value)
	case deltaSubscribe:
		return r.subscribed(value)
	case deltaUnsubscribe:
		r.unsubscribe++
		return r.called(value)
	case deltaVersions:
		return r.brought(value)
	case deltaNonce:
		r.nonce = value
	case deltaError:
		return r.refused(value)
	case deltaLocators:
		return fmt.Errorf("resource locators are not known here: expected resource_names_subscribe")
	}
	return nil
}

func (r *request) worldField(n protowire.Number, value []byte) error {
	switch n {
	case worldVersion:
		r.version = value
	case worldNode:
		r.node = value
	case worldNames:
		return r.subscribed(value)
	case worldType:
		return r.typed(value)
	case worldNonce:
		r.nonce = value
	case worldError:
		return r.refused(value)
	case worldLocators:
		return fmt.Errorf("resource locators are not known here: expected resource_names")
	}
	return nil
}

// subscribed counts a name that is wanted.
func (r *request) subscribed(name []byte) error {
	r.subscribe++
	r.everything = r.everything || string(name) == wildcardName
	r.name(name)
	return r.called(name)
}

// called checks a resource's name.
func (r *request) called(value []byte) error {
	r.longest = max(r.longest, len(value))
	if !utf8.Valid(value) {
		return fmt.Errorf("resource name %q is not UTF-8", value)
	}
	return nil
}

// brought counts a resource that the proxy has.
func (r *request) brought(pair []byte) error {
	r.versions++
	name, version, err := pairOf(pair)
	if err != nil {
		return err
	}
	r.claim(name, version)
	return r.called(name)
}

func (r *request) typed(value []byte) error {
	for _, known := range []string{ClusterType, EndpointType, ListenerType, RouteType, RuntimeType} {
		if string(value) == known {
			r.typeURL = known
			return nil
		}
	}
	if !utf8.Valid(value) {
		return fmt.Errorf("type URL %q is not UTF-8", value)
	}
	r.longest = max(r.longest, len(value))
	r.typeURL = string(value)
	return nil
}

func (r *request) refused(value []byte) error {
	r.rejected = true
	return fields(value, func(n protowire.Number, t protowire.Type, value []byte) error {
		if n == fieldErrorMessage && t == protowire.BytesType {
			r.words = value
		}
		return nil
	})
}

// eachName calls do for each name that the message holds under a field.
func (r *request) eachName(field protowire.Number, do func(name []byte)) {
	_ = r.each(func(n protowire.Number, t protowire.Type, value []byte) error {
		if n == field && t == protowire.BytesType {
			do(value)
		}
		return nil
	}) // it was read before
}

// eachSubscribed calls do for each name that the message subscribes to.
func (r *request) eachSubscribed(do func(name []byte)) {
	if r.protocol == StateOfTheWorld {
		r.eachName(worldNames, do)
		return
	}
	r.eachName(deltaSubscribe, do)
}

// eachVersion calls do for each resource that the proxy brings along, and the version it has.
func (r *request) eachVersion(do func(name, version []byte)) {
	if r.versions == 0 {
		return
	}
	r.eachName(deltaVersions, func(pair []byte) {
		name, version, _ := pairOf(pair) // it was read before
		do(name, version)
	})
}

// pairOf is a resource's name and version.
func pairOf(pair []byte) (name, version []byte, err error) {
	if name, version, short := shortPair(pair); short {
		return name, version, nil
	}
	err = fields(pair, func(n protowire.Number, t protowire.Type, value []byte) error {
		switch {
		case t != protowire.BytesType:
		case n == fieldMapKey:
			name = value
		case n == fieldMapValue:
			version = value
		}
		return nil
	})
	return name, version, err
}

// shortPair is the same for a pair as it most often is: of two fields with lengths of a byte each.
func shortPair(pair []byte) (name, version []byte, short bool) {
	n, name, rest, short := shortField(pair)
	if !short || n != fieldMapKey {
		return nil, nil, false
	}
	n, version, rest, short = shortField(rest)
	return name, version, short && n == fieldMapValue && len(rest) == 0
}

// proxyNode reads the message's node, nil if it has none. It leaves out the list of extensions, some 60 kB.
func (r *request) proxyNode() (*corev3.Node, error) {
	if len(r.node) == 0 {
		return nil, nil
	}
	kept, err := appendKept(nil, r.node)
	node := &corev3.Node{}
	if err == nil {
		err = proto.Unmarshal(kept, node)
	}
	return node, err
}

// appendKept adds a node's fields but those that list extensions and features, and of its build the version alone.
func appendKept(to, node []byte) ([]byte, error) {
	err := fields(node, func(n protowire.Number, t protowire.Type, value []byte) error {
		switch {
		case t != protowire.BytesType, n == fieldNodeExtensions, n == fieldNodeFeatures:
		case n == fieldNodeBuild:
			return fields(value, func(inside protowire.Number, t protowire.Type, version []byte) error {
				if inside == fieldBuildVersion && t == protowire.BytesType {
					version = protowire.AppendBytes(protowire.AppendTag(nil, inside, t), version)
					to = protowire.AppendBytes(protowire.AppendTag(to, n, t), version)
				}
				return nil
			})
		default:
			to = protowire.AppendBytes(protowire.AppendTag(to, n, t), value)
		}
		return nil
	})
	return to, err
}
