// Package limit is what xDS over grpc-go costs at least: a server that encodes a response once, hands the same bytes to every stream from a few goroutines, and reads
// what comes back only to drop it. It keeps no state of any proxy, and is what rampart's costs are measured against.
package limit

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
)

// Server answers the first request of each type with that type's bytes, who comes back after a step with that alone, and hands out steps. Its methods may be called from any goroutine.
type Server struct {
	first map[string]mem.Buffer // fixed after New: answers by type URL

	mu      sync.Mutex
	streams map[*stream]struct{} // guarded by mu
	newest  mem.Buffer           // guarded by mu: the last step; nil: none
}

// stream is one client's.
type stream struct {
	grpc.ServerStream

	mu sync.Mutex // held while a message is handed over
}

// New makes a server of encoded responses by type URL.
func New(responses map[string][]byte) *Server {
	s := &Server{first: map[string]mem.Buffer{}, streams: map[*stream]struct{}{}}
	for typeURL, response := range responses {
		s.first[typeURL] = mem.SliceBuffer(response)
	}
	return s
}

// Serve takes streams from a listener, and steps over another, until ctx ends.
func (s *Server) Serve(ctx context.Context, streams, steps net.Listener) error {
	group, ctx := errgroup.WithContext(ctx)
	server := grpc.NewServer(options()...)
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "envoy.service.discovery.v3.AggregatedDiscoveryService",
		Streams:     []grpc.StreamDesc{{StreamName: "DeltaAggregatedResources", Handler: s.receive, ServerStreams: true, ClientStreams: true}},
	}, nil)
	control := &http.Server{Handler: s.control()}
	group.Go(func() error { return server.Serve(streams) })
	group.Go(func() error {
		if err := control.Serve(steps); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve steps: %w", err)
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		server.Stop()
		return control.Close()
	})
	return group.Wait()
}

// receive is a stream's goroutine: it answers what is asked first, and drops the rest.
func (s *Server) receive(_ any, raw grpc.ServerStream) error {
	one := &stream{ServerStream: raw}
	s.mu.Lock()
	s.streams[one] = struct{}{}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.streams, one)
		s.mu.Unlock()
	}()
	if err := s.answerFirst(one); err != nil {
		return err
	}
	for {
		if err := raw.RecvMsg(nil); err != nil {
			return err
		}
	}
}

// answerFirst answers the first request of each type. Once there was a step, who comes back has all but that.
func (s *Server) answerFirst(one *stream) error {
	asked := make(map[string]bool, len(s.first))
	returns := false
	for len(asked) < len(s.first) {
		var r request
		if err := one.RecvMsg(&r); err != nil {
			return err
		}
		answer, known := s.first[r.typeURL]
		if !known || asked[r.typeURL] {
			continue
		}
		asked[r.typeURL] = true
		if r.returns {
			if last := s.last(); last != nil {
				returns, answer = true, last
			}
		} else if returns {
			continue
		}
		if err := one.send(answer); err != nil {
			return err
		}
	}
	return nil
}

// last is the last step, nil before the first.
func (s *Server) last() mem.Buffer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.newest
}

func (s *stream) send(message mem.Buffer) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.SendMsg(message)
}

// Step hands a response to every stream and returns how many there were.
func (s *Server) Step(response []byte) int {
	message := mem.SliceBuffer(response)
	s.mu.Lock()
	s.newest = message
	all := make([]*stream, 0, len(s.streams))
	for one := range s.streams {
		all = append(all, one)
	}
	s.mu.Unlock()
	senders := runtime.GOMAXPROCS(0)
	var sending sync.WaitGroup
	for i := range senders {
		sending.Go(func() {
			for _, one := range all[i*len(all)/senders : (i+1)*len(all)/senders] {
				_ = one.send(message) // one that has ended ends its own goroutine
			}
		})
	}
	sending.Wait()
	return len(all)
}

// Streams is how many there are.
func (s *Server) Streams() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.streams)
}
