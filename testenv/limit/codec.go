package limit

import (
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// options are grpc-go's at their cheapest for many streams at rest. Write buffers are shared by default.
func options() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ForceServerCodecV2(codec{}),
		grpc.ReadBufferSize(2 << 10),
		grpc.MaxRecvMsgSize(64 << 20),
		grpc.InitialWindowSize(256 << 10),
		grpc.InitialConnWindowSize(1 << 20),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 2 * time.Second, PermitWithoutStream: true}),
	}
}

// request is what is read of a DeltaDiscoveryRequest.
type request struct{ typeURL string }

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
	r.typeURL, err = typeURL(message.Materialize())
	return err
}

// fieldTypeURL is DeltaDiscoveryRequest's (discovery.proto).
const fieldTypeURL protowire.Number = 2

func typeURL(message []byte) (string, error) {
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return "", fmt.Errorf("read a request: %w", protowire.ParseError(n))
		}
		message = message[n:]
		if number == fieldTypeURL && kind == protowire.BytesType {
			value, n := protowire.ConsumeString(message)
			if n < 0 {
				return "", fmt.Errorf("read a request: %w", protowire.ParseError(n))
			}
			return value, nil
		}
		if n = protowire.ConsumeFieldValue(number, kind, message); n < 0 {
			return "", fmt.Errorf("read a request: %w", protowire.ParseError(n))
		}
		message = message[n:]
	}
	return "", nil
}
