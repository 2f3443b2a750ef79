package xds

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	statusv3 "github.com/envoyproxy/go-control-plane/envoy/service/status/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// Over TCP, as the connections' own addresses tell them apart.
func TestWhoNeverSaysHelloIsSentAwayAndWhoHasAStreamStays(t *testing.T) {
	s := New(Config{Cluster: "c1", Now: time.Now})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	server, addr, served := overTCP(t, s)
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	stream, err := statusv3.NewClientStatusDiscoveryServiceClient(conn).StreamClientStatus(ctx)
	if err != nil {
		t.Fatal(err)
	}
	ask := func() error {
		if err := stream.Send(&statusv3.ClientStatusRequest{}); err != nil {
			return err
		}
		_, err := stream.Recv()
		return err
	}
	if err := ask(); err != nil {
		t.Fatal(err)
	}
	silent, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	if n, err := silent.Read(make([]byte, 1)); n == 0 { // the server's settings: it is there
		t.Fatal(err)
	}
	s.Dismiss()
	if err := endOf(silent); err != nil {
		t.Errorf("who never said hello reads %v, not the end", err)
	}
	late, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = late.Close() }()
	if err := endOf(late); err != nil {
		t.Errorf("who comes late reads %v, not the end", err)
	}
	if err := ask(); err != nil {
		t.Errorf("a stream that was there ended with %v", err)
	}
	server.Stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// endOf waits for the end of a connection, which would come without us, too, but not so soon.
func endOf(conn net.Conn) error {
	if err := conn.SetReadDeadline(time.Now().Add(helloTimeout / 2)); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, conn)
	if op := (*net.OpError)(nil); errors.As(err, &op) && !op.Timeout() {
		return nil // it was reset
	}
	return err
}

// overTCP serves on loopback.
func overTCP(t *testing.T, s *Server) (server *grpc.Server, addr string, served <-chan error) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server = grpc.NewServer(s.GRPCOptions(nil)...)
	s.Register(server)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(s.Listen(listener)) }()
	t.Cleanup(server.Stop)
	return server, listener.Addr().String(), ended
}
