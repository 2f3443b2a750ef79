package xds

import (
	"fmt"
	"slices"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"
)

// bare is a server that only reads.
func bare() *Server { return New(Config{Cluster: "c1", Now: time.Now}) }

// sums are what comes of a tally.
func (t tally) sums() string {
	return fmt.Sprint(t.names, t.named, t.claims, t.newest, t.others)
}

// versionTexts are versions as proxies may bring them: of ours at some revisions, with parts and tags, of other clusters, and what is none.
func versionTexts() *rapid.Generator[string] {
	content := rapid.SampledFrom([]string{"0123456789abcdef", "fedcba9876543210", "0123456789abcdef~none+r1"})
	return rapid.OneOf(
		rapid.Custom(func(t *rapid.T) string {
			return version{cluster: "c1", revision: rapid.Int64Range(1, 3).Draw(t, "revision"), content: content.Draw(t, "content")}.String()
		}),
		rapid.SampledFrom([]string{"c1.7/0123456789abcdef/", "c1.2/0123", "c1.x/0123456789abcdef", "c2.9/0123456789abcdef", "c1.5/c1.5/0123456789abcdef", ""}),
	)
}

// A tally is the sum over what protobuf itself reads, however the client has written its pairs.
func TestATallyIsTheSumOfAllThatARequestNames(t *testing.T) {
	s, counted, pieced := bare(), 0, 0
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SampledFrom([]string{"a", "b", "shop/blue", "*", "ab"})
		asked := &discoveryv3.DeltaDiscoveryRequest{ResourceNamesSubscribe: rapid.SliceOf(names).Draw(t, "names")}
		wire, err := proto.Marshal(asked)
		if err != nil {
			t.Fatal(err)
		}
		versions := rapid.MapOf(names, versionTexts()).Draw(t, "versions")
		for name, text := range versions {
			wire = appendPair(t, wire, name, text)
		}
		if rapid.Bool().Draw(t, "odd") { // across buffers no field but of bytes is read in place
			wire = protowire.AppendVarint(protowire.AppendTag(wire, 100, protowire.VarintType), 1<<60)
		}
		r := s.newRequest(Delta)
		if err := (codec{}).Unmarshal(cutUp(t, wire), r); err != nil {
			t.Fatal(err)
		}
		if len(r.data) > 1 {
			pieced++
		}
		want := tally{}
		for _, name := range asked.ResourceNamesSubscribe {
			if name != wildcardName {
				want.names, want.named = want.names.plus(s.seeds.ofString(name)), want.named+1
			}
		}
		for name, text := range versions {
			v, ours := readVersion([]byte(text))
			if !ours || string(v.cluster) != "c1" {
				want.others = true
				continue
			}
			want.newest = max(want.newest, v.revision)
			want.claims = want.claims.plus(s.seeds.of(appendClaim(nil, name, string(v.content))))
		}
		if r.others != want.others || r.names != want.names || r.named != want.named {
			t.Fatalf("got %+v, want %+v", r.tally, want)
		}
		if want.others {
			return // the rest is not used
		}
		if counted += len(versions); r.sums() != want.sums() {
			t.Fatalf("got %s, want %s", r.sums(), want.sums())
		}
	})
	if counted == 0 || pieced == 0 {
		t.Errorf("%d versions were counted, %d messages read in pieces", counted, pieced)
	}
}

// appendPair writes a map's entry: as protobuf's libraries do, the other way round, or with a field that nobody knows.
func appendPair(t *rapid.T, to []byte, name, text string) []byte {
	key, value := appendText(nil, fieldMapKey, name), appendText(nil, fieldMapValue, text)
	pair := append(key, value...)
	switch rapid.IntRange(0, 2).Draw(t, "order") {
	case 0:
		pair = append(appendText(nil, fieldMapValue, text), appendText(nil, fieldMapKey, name)...)
	case 1:
		pair = protowire.AppendVarint(protowire.AppendTag(pair, 9, protowire.VarintType), 1)
	}
	return protowire.AppendBytes(protowire.AppendTag(to, deltaVersions, protowire.BytesType), pair)
}

// A hostile client's frames: each may hold a byte. Such a message is read as a copy.
func TestAMessageInTinyBuffersIsReadAtOnce(t *testing.T) {
	asked := &discoveryv3.DeltaDiscoveryRequest{}
	for i := range 200_000 {
		asked.ResourceNamesSubscribe = append(asked.ResourceNamesSubscribe, fmt.Sprint("a name of some length ", i))
	}
	wire, err := proto.Marshal(asked)
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{1, 2000, 20_000} { // of these some are read whole, others in pieces
		var buffers mem.BufferSlice
		for part := range slices.Chunk(wire, size) {
			buffers = append(buffers, mem.SliceBuffer(part))
		}
		r := bare().newRequest(Delta)
		if err := (codec{}).Unmarshal(buffers, r); err != nil || r.named != len(asked.ResourceNamesSubscribe) {
			t.Errorf("in buffers of %d bytes %d names were read, %v", size, r.named, err)
		}
		if whole := len(r.data) == 1; whole != (size == 1) {
			t.Errorf("in buffers of %d bytes it was read as %d pieces", size, len(r.data))
		}
	}
}
