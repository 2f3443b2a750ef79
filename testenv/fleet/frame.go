package fleet

import (
	"encoding/binary"

	"golang.org/x/net/http2/hpack"
)

// HTTP/2 as far as a gRPC client with one stream needs it (RFC 9113).
const (
	frameHeader = 9
	maxFrame    = 16384 // bytes of payload that every peer takes

	dataFrame         = 0x0
	headersFrame      = 0x1
	resetFrame        = 0x3
	settingsFrame     = 0x4
	pingFrame         = 0x6
	goAwayFrame       = 0x7
	windowFrame       = 0x8
	continuationFrame = 0x9

	flagAck        = 0x1
	flagEndStream  = 0x1
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20

	settingInitialWindow = 0x4

	firstWindow = 65535 // before anybody says otherwise
	onlyStream  = 1     // the id of a connection's stream

	// What Envoy lets a server send before it says that it has read (http2_protocol_options).
	streamWindow     = 16 << 20
	connectionWindow = 24 << 20
)

// frame is a frame's header.
type frame struct {
	length      int
	kind, flags byte
	stream      uint32
}

// append appends a frame's header; its payload follows.
func (f frame) append(b []byte) []byte {
	b = append(b, byte(f.length>>16), byte(f.length>>8), byte(f.length), f.kind, f.flags)
	return binary.BigEndian.AppendUint32(b, f.stream)
}

func readFrame(b []byte) frame {
	return frame{
		length: int(b[0])<<16 | int(b[1])<<8 | int(b[2]), kind: b[3], flags: b[4], stream: binary.BigEndian.Uint32(b[5:]) & (1<<31 - 1),
	}
}

// message is a gRPC message cut into DATA frames, ready to be sent by any number of clients. It is not changed once made.
type message []byte

func frameMessage(body []byte) message {
	const prefix = 5 // not compressed, and the length (gRPC over HTTP2, Length-Prefixed-Message)
	whole := make([]byte, 0, prefix+len(body))
	whole = append(whole, 0)
	whole = binary.BigEndian.AppendUint32(whole, uint32(len(body)))
	whole = append(whole, body...)
	framed := make(message, 0, len(whole)+(len(whole)/maxFrame+1)*frameHeader)
	for len(whole) > 0 {
		n := min(len(whole), maxFrame)
		framed = frame{length: n, kind: dataFrame, stream: onlyStream}.append(framed)
		framed = append(framed, whole[:n]...)
		whole = whole[n:]
	}
	return framed
}

// opening is what a client sends first: the preface, its windows, and the request's headers. They are the same for all.
func opening() []byte {
	b := []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	b = frame{length: 6, kind: settingsFrame}.append(b)
	b = binary.BigEndian.AppendUint16(b, settingInitialWindow)
	b = binary.BigEndian.AppendUint32(b, streamWindow)
	b = appendWindow(b, 0, connectionWindow-firstWindow)
	block := headerBlock()
	b = frame{length: len(block), kind: headersFrame, flags: flagEndHeaders, stream: onlyStream}.append(b)
	return append(b, block...)
}

func appendWindow(b []byte, stream uint32, more int) []byte {
	return binary.BigEndian.AppendUint32(frame{length: 4, kind: windowFrame, stream: stream}.append(b), uint32(more))
}

func headerBlock() []byte {
	var block blockWriter
	encoder := hpack.NewEncoder(&block)
	for _, field := range []hpack.HeaderField{
		{Name: ":method", Value: "POST"},
		{Name: ":scheme", Value: "http"},
		{Name: ":path", Value: "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"},
		{Name: ":authority", Value: "rampart"},
		{Name: "te", Value: "trailers"},
		{Name: "content-type", Value: "application/grpc"},
		{Name: "x-envoy-internal", Value: "true"},
	} {
		_ = encoder.WriteField(field) // a blockWriter never fails
	}
	return block
}

type blockWriter []byte

func (b *blockWriter) Write(p []byte) (int, error) {
	*b = append(*b, p...)
	return len(p), nil
}
