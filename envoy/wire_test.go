package envoy

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	loadstatsv3 "github.com/envoyproxy/go-control-plane/envoy/service/load_stats/v3"
	"google.golang.org/grpc/mem"
	"pgregory.net/rapid"

	"github.com/rampart-proxy/rampart/policy"
)

// cut is a message as it came in frames that end somewhere.
func cut(t *rapid.T, data []byte) mem.BufferSlice {
	ends := rapid.SliceOfN(rapid.IntRange(0, len(data)), 0, 6).Draw(t, "ends")
	slices.Sort(ends)
	var pieces mem.BufferSlice
	from := 0
	for _, end := range append(ends, len(data)) {
		pieces = append(pieces, mem.SliceBuffer(bytes.Clone(data[from:end])))
		from = end
	}
	return pieces
}

func TestAReportIsReadAlikeInHoweverManyPiecesItComes(t *testing.T) {
	stats := []*endpointv3.ClusterStats{statsOf("shop/blue", policy.Counts{OK: 300}, time.Second), statsOf("shop/green", policy.Counts{Errors: 7}, time.Second)}
	usual := serialised(t, &loadstatsv3.LoadStatsRequest{Node: bigNode(), ClusterStats: stats})
	small := serialised(t, &loadstatsv3.LoadStatsRequest{Node: nodeOf("edge-1", 40), ClusterStats: stats})
	nodeless := serialised(t, &loadstatsv3.LoadStatsRequest{ClusterStats: stats})
	alone := serialised(t, &loadstatsv3.LoadStatsRequest{Node: bigNode()})
	late := slices.Concat(nodeless, alone)
	lying := append([]byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f}, nodeless...)
	endless := append([]byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}, nodeless...)
	rapid.Check(t, func(t *rapid.T) {
		data := rapid.OneOf(
			rapid.SampledFrom([][]byte{usual, small, nodeless, alone, late, lying, endless, {}}),
			rapid.SliceOfN(rapid.Byte(), 0, 20),
		).Draw(t, "data")
		if rapid.Bool().Draw(t, "cut short") {
			data = data[:rapid.IntRange(0, len(data)).Draw(t, "length")]
		}
		whole, pieces := loadReport{wantNode: rapid.Bool().Draw(t, "want node")}, loadReport{}
		pieces.wantNode = whole.wantNode
		whole.problem = whole.decode(data)
		pieces.read(cut(t, data))
		if a, b := fmt.Sprint(whole.clusters, whole.samples, whole.node, whole.problem), fmt.Sprint(pieces.clusters, pieces.samples, pieces.node, pieces.problem); a != b {
			t.Fatalf("whole: %s\nin pieces: %s", a, b)
		}
	})
}

func TestNothingOfANodeIsCopied(t *testing.T) {
	report := serialised(t, &loadstatsv3.LoadStatsRequest{ClusterStats: []*endpointv3.ClusterStats{statsOf("shop/blue", policy.Counts{OK: 3}, time.Second)}})
	data := slices.Concat(serialised(t, &loadstatsv3.LoadStatsRequest{Node: bigNode()}), report)
	pieces := mem.BufferSlice{}
	for piece := range slices.Chunk(data, 16<<10) {
		pieces = append(pieces, mem.SliceBuffer(piece))
	}
	past(fieldNode, pieces, func(rest []byte) {
		same(t, "rest", rest, report)
		if &rest[0] != &data[len(data)-len(report)] {
			t.Error("it was copied")
		}
	})
}
