package fleet

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"fmt"
	"io"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// nodeText is what an Envoy 1.40 says of itself beside its id and cluster: 61 kB, most of it the names of its extensions.
//
//go:embed node.pb.gz
var nodeText []byte

func loadNode() ([]byte, error) {
	packed, err := gzip.NewReader(bytes.NewReader(nodeText))
	if err != nil {
		return nil, fmt.Errorf("read the node: %w", err)
	}
	node, err := io.ReadAll(packed)
	if err != nil {
		return nil, fmt.Errorf("read the node: %w", err)
	}
	return node, nil
}

// Fields that are written by hand (discovery.proto, base.proto).
const (
	nodeField     protowire.Number = 1 // DeltaDiscoveryRequest
	typeField     protowire.Number = 2
	answersField  protowire.Number = 6 // response_nonce
	idField       protowire.Number = 1 // Node
	clusterField  protowire.Number = 2
	messagePrefix                  = 5 // of gRPC
)

// encodeRequest writes a request without a node.
func encodeRequest(typeURL string, more, less []string, has map[string]string) []byte {
	body, err := proto.Marshal(&discoveryv3.DeltaDiscoveryRequest{
		TypeUrl: typeURL, ResourceNamesSubscribe: more, ResourceNamesUnsubscribe: less, InitialResourceVersions: has,
	})
	if err != nil {
		panic("fleet: a request that cannot be serialised: " + err.Error())
	}
	return body
}

// withNode adds a client's node to a request's body.
func withNode(body, node []byte, id, cluster string) []byte {
	var own []byte
	own = protowire.AppendTag(own, idField, protowire.BytesType)
	own = protowire.AppendString(own, id)
	own = protowire.AppendTag(own, clusterField, protowire.BytesType)
	own = protowire.AppendString(own, cluster)
	whole := make([]byte, 0, len(own)+len(node)+len(body)+16)
	whole = protowire.AppendTag(whole, nodeField, protowire.BytesType)
	whole = protowire.AppendVarint(whole, uint64(len(own)+len(node)))
	whole = append(whole, own...)
	whole = append(whole, node...)
	return append(whole, body...)
}

// appendAck appends the whole frame of the answer to a response.
func appendAck(b []byte, typeURL string, nonce []byte) []byte {
	size := protowire.SizeTag(typeField) + protowire.SizeBytes(len(typeURL)) + protowire.SizeTag(answersField) + protowire.SizeBytes(len(nonce))
	b = frame{length: messagePrefix + size, kind: dataFrame, stream: onlyStream}.append(b)
	b = append(b, 0, byte(size>>24), byte(size>>16), byte(size>>8), byte(size))
	b = protowire.AppendTag(b, typeField, protowire.BytesType)
	b = protowire.AppendString(b, typeURL)
	b = protowire.AppendTag(b, answersField, protowire.BytesType)
	return protowire.AppendBytes(b, nonce)
}

// requests are what a client asks on a new stream. The first goes with its node.
func (s *state) requests() []request {
	s.again.Do(func() {
		if s.isFresh() {
			// One message each, as Envoy's layers are subscriptions of their own.
			for _, name := range s.layers {
				s.messages = append(s.messages, asRequest(encodeRequest(Layers, []string{name}, nil, nil), len(s.messages) == 0))
			}
			return
		}
		for _, typeURL := range []string{Layers, Clusters, Endpoints, Listeners, Routes} {
			names, asked := s.asked[typeURL]
			if asked {
				s.messages = append(s.messages, asRequest(encodeRequest(typeURL, names, nil, s.has[typeURL].all()), len(s.messages) == 0))
			}
		}
	})
	return s.messages
}

// isFresh reports whether nothing was ever answered.
func (s *state) isFresh() bool { return len(s.has) == 0 }

func asRequest(body []byte, first bool) request {
	if first {
		return request{body: body}
	}
	return request{framed: frameMessage(body)}
}

// back is the state with which a client comes back on a new stream: nobody waits for an answer any more.
func (s *state) back() *state {
	if !s.owes {
		return s
	}
	return &state{layers: s.layers, has: s.has, asked: s.asked, cold: s.cold, warm: s.warm}
}
