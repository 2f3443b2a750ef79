package limit

import (
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// options are grpc-go's at their cheapest for many streams at rest. Write buffers are shared by default; read buffers are larger than any frame, and there only while
// something is in them: smaller ones cost more system calls, and the last long frame's memory for as long as the connection is there.
func options() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ForceServerCodecV2(codec{}),
		grpc.ReadBufferSize(32 << 10),
		grpc.MaxRecvMsgSize(64 << 20),
		grpc.InitialWindowSize(256 << 10),
		grpc.InitialConnWindowSize(1 << 20),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 2 * time.Second, PermitWithoutStream: true}),
	}
}

// request is what is read of a DeltaDiscoveryRequest.
type request struct {
	typeURL string
	returns bool // it is about layers, and says which versions the client has of an earlier stream
}

// codec passes bytes through.
type codec struct{}

func (codec) Name() string { return "proto" }

func (codec) Marshal(v any) (mem.BufferSlice, error) {
	buffer, ours := v.(mem.Buffer)
	if !ours {
		return nil, fmt.Errorf("send a %T: only buffers are sent", v)
	}
	return mem.BufferSlice{buffer}, nil
}

func (codec) Unmarshal(message mem.BufferSlice, v any) error {
	r, asked := v.(*request)
	if !asked {
		return nil // it is dropped
	}
	var err error
	*r, err = read(message)
	return err
}

// The fields of DeltaDiscoveryRequest that are read (discovery.proto).
const (
	fieldTypeURL  protowire.Number = 2
	fieldVersions protowire.Number = 5
)

// layers are the type whose first request tells whether a client comes back. It is short; of others nothing is read behind their type.
const layers = "type.googleapis.com/envoy.service.runtime.v3.Runtime"

// read reads past all else where it lies.
func read(message mem.BufferSlice) (r request, err error) {
	in := message.Reader()
	defer in.Close()
	for in.Remaining() > 0 {
		tag, err := binary.ReadUvarint(in)
		if err != nil {
			return r, fmt.Errorf("read a request: %w", err)
		}
		if tag&7 != uint64(protowire.BytesType) {
			return r, fmt.Errorf("read a request: field %d is not of bytes", tag>>3)
		}
		length, err := binary.ReadUvarint(in)
		if err != nil || length > uint64(in.Remaining()) {
			return r, fmt.Errorf("read a request: field %d is cut off", tag>>3)
		}
		switch protowire.Number(tag >> 3) {
		case fieldVersions:
			r.returns = true
			return r, nil
		case fieldTypeURL:
			value := make([]byte, length)
			if _, err := io.ReadFull(in, value); err != nil {
				return r, fmt.Errorf("read a request: %w", err)
			}
			if r.typeURL = string(value); r.typeURL != layers {
				return r, nil
			}
		default:
			if _, err := in.Discard(int(length)); err != nil {
				return r, fmt.Errorf("read a request: %w", err)
			}
		}
	}
	return r, nil
}
