package fleet

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/rampart-proxy/rampart/testenv"
)

// recorder stands between proxies and a server, passes on what they say, and writes down what the proxies ask.
type recorder struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	address  string
	upstream *grpc.ClientConn

	mu      sync.Mutex
	streams []*recording       // guarded by mu
	cut     context.CancelFunc // guarded by mu: ends the newest stream
	sent    map[string]string  // guarded by mu: what unanswered responses of the newest stream are about, by type and nonce
}

// recording is what one stream asked, in order.
type recording struct {
	lines []string
	seen  int // of the lines
	node  *corev3.Node
}

func newRecorder(t *testing.T, upstream string) *recorder {
	t.Helper()
	conn, err := grpc.NewClient(upstream, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30)))
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{address: listener.Addr().String(), upstream: conn}
	server := grpc.NewServer(grpc.MaxRecvMsgSize(1 << 30))
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(server, r)
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) })
	t.Cleanup(func() {
		server.Stop()
		serving.Wait()
		_ = conn.Close()
	})
	return r
}

// DeltaAggregatedResources passes one stream on.
func (r *recorder) DeltaAggregatedResources(s discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	ctx, cut := context.WithCancel(s.Context())
	defer cut()
	up, err := discoveryv3.NewAggregatedDiscoveryServiceClient(r.upstream).DeltaAggregatedResources(ctx)
	if err != nil {
		return err
	}
	record := &recording{}
	r.mu.Lock()
	r.streams, r.cut, r.sent = append(r.streams, record), cut, map[string]string{}
	r.mu.Unlock()
	go func() {
		for {
			request, err := s.Recv()
			if err != nil {
				cut()
				return
			}
			r.note(record, request)
			if up.Send(request) != nil {
				return
			}
		}
	}()
	for {
		response, err := up.Recv()
		if err != nil {
			return err
		}
		r.noteSent(response)
		if err := s.Send(response); err != nil {
			return err
		}
	}
}

func (r *recorder) noteSent(response *discoveryv3.DeltaDiscoveryResponse) {
	var names []string
	for _, resource := range response.Resources {
		name := resource.Name
		if resource.Resource == nil {
			name += "(beat)"
		}
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range response.RemovedResources {
		names = append(names, "-"+name)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sent[response.TypeUrl+"\n"+response.Nonce] = strings.Join(names, ",")
}

func (r *recorder) note(record *recording, q *discoveryv3.DeltaDiscoveryRequest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	line := []string{q.TypeUrl[strings.LastIndexByte(q.TypeUrl, '.')+1:]}
	if q.Node != nil {
		line = append(line, "node")
		record.node = q.Node
	}
	if q.ResponseNonce != "" {
		about, known := r.sent[q.TypeUrl+"\n"+q.ResponseNonce]
		if !known {
			about = "what needs no answer"
		}
		delete(r.sent, q.TypeUrl+"\n"+q.ResponseNonce)
		line = append(line, "ack("+about+")")
	}
	if q.ErrorDetail != nil {
		line = append(line, "nack "+q.ErrorDetail.Message)
	}
	for _, part := range []struct {
		mark  string
		names []string
	}{{"+", q.ResourceNamesSubscribe}, {"-", q.ResourceNamesUnsubscribe}, {"has ", slices.Collect(maps.Keys(q.InitialResourceVersions))}} {
		if len(part.names) > 0 {
			line = append(line, part.mark+strings.Join(slices.Sorted(slices.Values(part.names)), ","))
		}
	}
	record.lines = append(record.lines, strings.Join(line, " "))
}

// recorded is what the streams asked so far.
func (r *recorder) recorded() []recording {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []recording
	for _, s := range r.streams {
		all = append(all, recording{lines: slices.Clone(s.lines), node: s.node})
	}
	return all
}

// await waits until a stream has asked all of these since forget was called, each as often as it is named.
func (r *recorder) await(t *testing.T, stream int, lines ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	err := testenv.Eventually(ctx, func() (bool, error) {
		missing := r.missing(stream, lines)
		if len(missing) > 0 {
			return false, fmt.Errorf("not asked: %q, but %+v", missing, r.recorded())
		}
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (r *recorder) missing(stream int, lines []string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.streams) < stream {
		return lines
	}
	record := r.streams[stream-1]
	missing := slices.Clone(lines)
	for _, line := range record.lines[record.seen:] {
		if i := slices.Index(missing, line); i >= 0 {
			missing = slices.Delete(missing, i, i+1)
		}
	}
	return missing
}

// awaitAnswers waits until each response of the newest stream has been answered. One that is answered twice is recorded as such.
func (r *recorder) awaitAnswers(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	err := testenv.Eventually(ctx, func() (bool, error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.sent) == 0, nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// forget has await look at nothing that was asked so far.
func (r *recorder) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	newest := r.streams[len(r.streams)-1]
	newest.seen = len(newest.lines)
}

// cutOff ends the newest stream.
func (r *recorder) cutOff() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cut()
}
