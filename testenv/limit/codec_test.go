package limit

import (
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
)

// halves is a message that came in two buffers.
func halves(body []byte) mem.BufferSlice {
	return mem.BufferSlice{mem.SliceBuffer(body[:len(body)/2]), mem.SliceBuffer(body[len(body)/2:])}
}

func TestATypeIsReadWhateverElseARequestHolds(t *testing.T) {
	for _, wanted := range []request{{typeURL: "a type"}, {typeURL: layers}, {typeURL: layers, returns: true}} {
		message := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: wanted.typeURL, ResourceNamesSubscribe: []string{"x"}, ResponseNonce: "1"}
		if wanted.returns {
			message.InitialResourceVersions = map[string]string{"x": "1"}
		}
		body, err := proto.Marshal(message)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := read(halves(body)); got != wanted || err != nil {
			t.Errorf("%+v is read as %+v, %v", wanted, got, err)
		}
	}
	if got, err := read(nil); got.typeURL != "" || err != nil {
		t.Errorf("%q, %v", got.typeURL, err)
	}
	if got, err := read(halves([]byte{0x12, 0x7f, 'x'})); err == nil {
		t.Errorf("what is cut off is read as %q", got.typeURL)
	}
}

func FuzzWhateverIsAskedIsReadOrRefused(f *testing.F) {
	f.Add([]byte{0x12, 0x01, 'x'})
	f.Add([]byte{0x12, 0x7f, 'x'})
	f.Fuzz(func(_ *testing.T, body []byte) { _, _ = read(halves(body)) })
}
