package envoy_test

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/protobuf/encoding/protowire"
)

const (
	frameBytes  = 16 << 10 // of data: what grpc-go takes at most, and Envoy fills
	frameHeader = 9
	// messageHeader is what gRPC puts before a message.
	messageHeader = 5
	initialWindow = 65535 // of a stream, in HTTP/2
	reportPath    = "/envoy.service.load_stats.v3.LoadReportingService/StreamLoadStats"
	metricsPath   = "/envoy.service.metrics.v3.MetricsService/StreamMetrics"
)

// reporters are simulated Envoys that send load reports: ready-made HTTP/2 over TCP, so that it costs less to send than to read.
type reporters struct {
	proxies []*reporter
	rest    []byte // of a message's frames: alike for all
	size    int    // of a message
}

// reporter is one connection with one stream.
type reporter struct {
	conn  *net.TCPConn
	raw   syscall.RawConn
	first []byte // of a report's frames: as far as they differ between proxies

	at     int    // bytes of its report's frames that were sent; 0: it has none to send
	window int    // bytes of data that the stream takes
	heard  []byte // that are no whole frame yet
}

// recordedNode is what a real Envoy 1.40 with rampart's bootstrap sends first: its node, field 1 of a LoadStatsRequest.
func recordedNode(t testing.TB) []byte {
	t.Helper()
	packed, err := os.ReadFile("testdata/node-1.40.bin.gz")
	if err != nil {
		t.Fatal(err)
	}
	unpacker, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(unpacker)
	if err != nil {
		t.Fatal(err)
	}
	node, n := protowire.ConsumeBytes(data[1:])
	if n != len(data)-1 {
		t.Fatalf("the recording is not one field: %d of %d bytes", n, len(data)-1)
	}
	return node
}

// recordedReport is what it adds in a running release.
func recordedReport(t testing.TB) []byte {
	t.Helper()
	data, err := os.ReadFile("testdata/load-1.40.bin")
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// named is the node under another name, as field 1 of a message. All names are of one length.
func named(node []byte, i int) []byte {
	n := protowire.ConsumeFieldValue(1, protowire.BytesType, node[1:]) // its own name comes first
	id := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), fmt.Appendf(nil, "edge-%05d", i))
	return protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), append(id, node[1+n:]...))
}

// framed is a gRPC message in frames of a stream.
func framed(stream uint32, message []byte) []byte {
	message = append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
	var frames bytes.Buffer
	framer := http2.NewFramer(&frames, nil)
	for len(message) > 0 {
		n := min(len(message), frameBytes)
		_ = framer.WriteData(stream, false, message[:n]) // a buffer takes all
		message = message[n:]
	}
	return frames.Bytes()
}

// differing is how much of a message's frames is kept for each proxy.
const differing = 64

// connectReporters opens the streams and sends the nodes.
func connectReporters(t testing.TB, address string, n int) *reporters {
	t.Helper()
	node, report := recordedNode(t), recordedReport(t)
	f := &reporters{}
	for i := range n {
		hello := named(node, i)
		frames := framed(1, append(bytes.Clone(hello), report...))
		f.rest, f.size = frames[differing:], len(hello)+len(report)
		p := &reporter{first: bytes.Clone(frames[:differing])}
		p.dial(t, address, slices.Concat(opening(), headers(1, reportPath), framed(1, hello)))
		p.window = initialWindow - len(hello) - messageHeader
		f.proxies = append(f.proxies, p)
	}
	return f
}

// dial connects and says hello.
func (p *reporter) dial(t testing.TB, address string, hello []byte) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	p.conn = conn.(*net.TCPConn)
	if p.raw, err = p.conn.SyscallConn(); err != nil {
		t.Fatal(err)
	}
	if err := p.conn.SetWriteBuffer(256 << 10); err != nil {
		t.Fatal(err)
	}
	if _, err := p.conn.Write(hello); err != nil {
		t.Fatal(err)
	}
}

// opening is the beginning of a connection. Its windows are wide, for nobody updates them.
func opening() []byte {
	frames := bytes.NewBufferString(http2.ClientPreface)
	framer := http2.NewFramer(frames, nil)
	_ = framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 28}) // a buffer takes all
	_ = framer.WriteSettingsAck()
	_ = framer.WriteWindowUpdate(0, 1<<28)
	return frames.Bytes()
}

// headers begin a call.
func headers(stream uint32, path string) []byte {
	var frames, block bytes.Buffer
	packer := hpack.NewEncoder(&block)
	packer.SetMaxDynamicTableSizeLimit(0) // so that each block stands alone
	for _, field := range [][2]string{
		{":method", "POST"}, {":scheme", "http"}, {":path", path}, {":authority", "rampart"}, {"te", "trailers"}, {"content-type", "application/grpc"},
	} {
		_ = packer.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]}) // a buffer takes all
	}
	_ = http2.NewFramer(&frames, nil).WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block.Bytes(), EndHeaders: true})
	return frames.Bytes()
}

// connectResting opens connections on which a proxy without a running release has so many streams: of load reports, and of statistics besides. What is sent is the node.
func connectResting(t testing.TB, address string, n, streams int) {
	t.Helper()
	node := recordedNode(t)
	for i := range n {
		message := named(node, i)
		hello := opening()
		if streams > 0 {
			hello = slices.Concat(hello, headers(1, reportPath), framed(1, message))
		}
		if streams > 1 {
			identifier := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), message)
			hello = slices.Concat(hello, headers(3, metricsPath), framed(3, identifier))
		}
		(&reporter{}).dial(t, address, hello)
	}
}

// report sends as much of a report as the stream's window takes, and reports whether that was the rest of it.
func (f *reporters) report(p *reporter) (whole bool, err error) {
	if err := p.listen(); err != nil {
		return false, err
	}
	size, from := differing+len(f.rest), p.at
	for p.at < size {
		n := min(size-p.at, frameHeader+frameBytes)
		if p.window < n-frameHeader {
			break
		}
		p.at += n
		p.window -= n - frameHeader
	}
	frames := net.Buffers{p.first[min(from, differing):min(p.at, differing)], f.rest[max(0, from-differing):max(0, p.at-differing)]}
	if _, err := frames.WriteTo(p.conn); err != nil || p.at < size {
		return false, err
	}
	p.at = 0
	return true, nil
}

// listen reads what is there, and does not wait for more.
func (p *reporter) listen() error {
	var ended error
	err := p.raw.Read(func(fd uintptr) bool {
		var buffer [2048]byte
		n, err := syscall.Read(int(fd), buffer[:])
		if n == 0 && err == nil {
			ended = io.EOF
		}
		p.heard = append(p.heard, buffer[:max(0, n)]...)
		return true
	})
	for err == nil && ended == nil && len(p.heard) >= frameHeader {
		size := frameHeader + int(binary.BigEndian.Uint32(p.heard)>>8)
		if len(p.heard) < size {
			break
		}
		ended = p.take(p.heard[3], p.heard[5:frameHeader], p.heard[frameHeader:size])
		p.heard = append(p.heard[:0], p.heard[size:]...)
	}
	return errors.Join(err, ended)
}

// take notes what a frame says of the stream's window.
func (p *reporter) take(kind byte, stream, payload []byte) error {
	switch http2.FrameType(kind) {
	case http2.FrameSettings:
		for ; len(payload) >= 6; payload = payload[6:] {
			if http2.SettingID(binary.BigEndian.Uint16(payload)) == http2.SettingInitialWindowSize {
				p.window += int(binary.BigEndian.Uint32(payload[2:])) - initialWindow
			}
		}
	case http2.FrameWindowUpdate:
		if binary.BigEndian.Uint32(stream) != 0 {
			p.window += int(binary.BigEndian.Uint32(payload))
		}
	case http2.FrameRSTStream, http2.FrameGoAway:
		return fmt.Errorf("the server ends the stream: %s %x", http2.FrameType(kind), payload)
	}
	return nil
}

// push has proxies send what they have to, and returns those whose windows do not take all of it yet.
func (f *reporters) push(proxies []int) (waiting []int, err error) {
	for _, i := range proxies {
		whole, err := f.report(f.proxies[i])
		if err != nil {
			return nil, fmt.Errorf("proxy %d: %w", i, err)
		}
		if !whole {
			waiting = append(waiting, i)
		}
	}
	return waiting, nil
}

// run has each proxy report once an interval, evenly spread, for so many rounds, and returns how long that took.
func (f *reporters) run(interval time.Duration, rounds int) (took time.Duration, err error) {
	began := time.Now()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	var waiting []int // proxies that have yet to send the rest of a report
	for sent := 0; sent < rounds*len(f.proxies) || len(waiting) > 0; {
		due := int(time.Since(began).Seconds() / interval.Seconds() * float64(len(f.proxies)))
		for ; sent < min(due, rounds*len(f.proxies)); sent++ {
			waiting = append(waiting, sent%len(f.proxies))
		}
		if waiting, err = f.push(waiting); err != nil {
			return 0, err
		}
		<-tick.C
	}
	return time.Since(began), nil
}
