package envoy_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"runtime/pprof"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	protocodec "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"

	"github.com/rampart-proxy/rampart/envoy"
	"github.com/rampart-proxy/rampart/policy"
	"github.com/rampart-proxy/rampart/testenv"
	"github.com/rampart-proxy/rampart/xds"
)

// roleReports is a server of reports in a process of its own, so that its processor time and its memory are known: reports-server real|resting|bare [profile].
const roleReports = "reports-server"

// TestMain lets this binary be that process.
func TestMain(m *testing.M) {
	if len(os.Args) < 3 || os.Args[1] != roleReports {
		os.Exit(m.Run())
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	err := serveReports(ctx, os.Args[2:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// reportTotals is what such a server tells at its end.
type reportTotals struct {
	Messages int64 // that were read
	Tries    int64 // that were counted
	Proxies  int   // that reported at some time within one turn, at most
}

// serveReports tells its address on descriptor 3, and at its end what came.
func serveReports(ctx context.Context, args []string) error {
	tell := json.NewEncoder(os.NewFile(3, "tell"))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if len(args) > 1 {
		file, err := os.Create(args[1])
		if err != nil {
			return err
		}
		if err := pprof.StartCPUProfile(file); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	var totals reportTotals
	server, count := bareServer(&totals), func(context.Context) {}
	if args[0] != "bare" {
		server, count = realServer(&totals, args[0] == "real")
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	if err := tell.Encode(listener.Addr().String()); err != nil {
		return err
	}
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGUSR1)
	var answering sync.WaitGroup
	answering.Go(func() { totals.answer(ctx, asked, tell) })
	count(ctx)
	answering.Wait()
	server.Stop()
	return errors.Join(<-ended, tell.Encode(totals))
}

// answer tells how many messages were read so far whenever it is asked, when all memory that is not needed was given back.
func (r *reportTotals) answer(ctx context.Context, asked <-chan os.Signal, tell *json.Encoder) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-asked:
			debug.FreeOSMemory()
			_ = tell.Encode(atomic.LoadInt64(&r.Messages)) // whoever asked has gone
		}
	}
}

// dropped is a message that nobody reads.
type dropped struct{}

// dropper hands messages of the type dropped through.
type dropper struct{ encoding.CodecV2 }

func (d dropper) Unmarshal(data mem.BufferSlice, v any) error {
	if _, drop := v.(*dropped); drop {
		return nil
	}
	return d.CodecV2.Unmarshal(data, v)
}

// bareServer is the reference: grpc-go with the same options, that drops what comes.
func bareServer(totals *reportTotals) *grpc.Server {
	options := xds.New(xds.Config{Now: time.Now}).GRPCOptions(dropper{encoding.GetCodecV2(protocodec.Name)})
	return grpc.NewServer(append(options, grpc.WaitForHandlers(true), grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		for {
			if err := stream.RecvMsg(&dropped{}); err != nil {
				return err
			}
			atomic.AddInt64(&totals.Messages, 1)
		}
	}))...)
}

// realServer counts as a replica does, if a release of shop runs all that 1,000 proxies can report twice a second. Its second result takes the readings until the
// context ends.
func realServer(totals *reportTotals, runs bool) (*grpc.Server, func(context.Context)) {
	collector := envoy.NewCollector(envoy.CollectorConfig{
		Now: time.Now, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)), Touch: func(string, time.Time) { atomic.AddInt64(&totals.Messages, 1) },
		Budget: 125_000_000,
	})
	if runs {
		collector.Want([]envoy.Wanted{{
			Service: "shop", Release: "green-7", Gateways: []string{"edge"}, Metrics: []string{"named_metrics.quality"},
			LivePool: "shop/blue", CandidatePool: "shop/green", LiveArm: "shop/blue|none", CandidateArm: "shop/green|blue",
		}})
	}
	options := xds.New(xds.Config{Now: time.Now}).GRPCOptions(envoy.Codec())
	server := grpc.NewServer(append(options, grpc.WaitForHandlers(true))...)
	collector.Register(server)
	return server, func(ctx context.Context) {
		for ended := false; !ended; {
			select {
			case <-ctx.Done():
				ended = true
			case <-time.After(collector.Interval()):
			}
			reading := collector.Take(time.Now(), func(string, string) bool { return true })["shop"]
			totals.Tries += int64(tries(reading))
			totals.Proxies = max(totals.Proxies, len(reading.Proxies))
		}
	}
}

func tries(r policy.Reading) uint64 { return r.Live.Finished() + r.Candidate.Finished() }

// reportServer is such a process at work.
type reportServer struct {
	*testenv.Proc
	address string
	told    *json.Decoder
}

func startReportServer(t testing.TB, args ...string) *reportServer {
	t.Helper()
	program, err := testenv.Self(append([]string{roleReports}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	log := t.TempDir() + "/log"
	proc, err := testenv.StartProc(t.Context(), testenv.Command{Program: program, Log: log, Extra: []*os.File{out}})
	if err != nil {
		t.Fatal(err)
	}
	_ = out.Close()
	t.Cleanup(func() {
		_ = proc.Kill()
		_ = in.Close()
	})
	s := &reportServer{Proc: proc, told: json.NewDecoder(in)}
	if err := s.told.Decode(&s.address); err != nil {
		t.Fatal(err)
	}
	return s
}

// settled waits until so many messages were read and returns how much memory the process then has, in bytes.
func (s *reportServer) settled(t testing.TB, messages int) (resident int64) {
	t.Helper()
	short, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := testenv.Eventually(short, func() (bool, error) {
		if err := s.Signal(syscall.SIGUSR1); err != nil {
			return false, err
		}
		var read int
		if err := s.told.Decode(&read); err != nil {
			return false, err
		}
		if read < messages {
			return false, fmt.Errorf("%d of %d messages were read", read, messages)
		}
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return residentBytes(t, s.Pid())
}

// end stops the server and returns what it had counted.
func (s *reportServer) end(t testing.TB) (totals reportTotals) {
	t.Helper()
	if err := s.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := s.told.Decode(&totals); err != nil {
		t.Fatal(err)
	}
	if err := s.Wait(); err != nil {
		t.Fatal(err)
	}
	return totals
}
