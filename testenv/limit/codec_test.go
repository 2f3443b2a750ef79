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
	request := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: "a type", ResourceNamesSubscribe: []string{"x"}, ResponseNonce: "1"}
	body, err := proto.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := typeURL(halves(body)); got != "a type" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := typeURL(nil); got != "" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := typeURL(halves([]byte{0x12, 0x7f, 'x'})); err == nil {
		t.Errorf("what is cut off is read as %q", got)
	}
}

func FuzzWhateverIsAskedIsReadOrRefused(f *testing.F) {
	f.Add([]byte{0x12, 0x01, 'x'})
	f.Add([]byte{0x12, 0x7f, 'x'})
	f.Fuzz(func(_ *testing.T, body []byte) { _, _ = typeURL(halves(body)) })
}
