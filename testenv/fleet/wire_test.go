package fleet

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"
)

// reader is a loop without connections, and a client of it that has asked for its layers.
func reader(t interface{ Fatal(...any) }) (*loop, *client) {
	f, err := New(Config{Server: "127.0.0.1:1", Clients: 1, Gateway: "edge", Layers: layers(), Loops: 1})
	if err != nil {
		t.Fatal(err)
	}
	l := f.loops[0]
	l.poll.close()
	c := &client{id: "c", state: fresh(layers())}
	c.connectedTo(-1)
	return l, c
}

// spoken is what a server says on one connection, in frames cut as it likes, and how many messages it holds.
func spoken(t *rapid.T) (b []byte, messages int) {
	b = frame{length: 6, kind: settingsFrame}.append(b)
	b = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(b, settingInitialWindow), 1<<20)
	var block bytes.Buffer
	if err := hpack.NewEncoder(&block).WriteField(hpack.HeaderField{Name: ":status", Value: "200"}); err != nil {
		t.Fatal(err)
	}
	b = append(frame{length: block.Len(), kind: headersFrame, flags: flagEndHeaders, stream: onlyStream}.append(b), block.Bytes()...)
	var whole []byte
	// Large ones of the same length may be equal, or differ somewhere.
	sizes := rapid.OneOf(rapid.IntRange(0, 3000), rapid.Just(largeMessage))
	for _, size := range rapid.SliceOfN(sizes, 1, 6).Draw(t, "sizes") {
		text := make([]byte, size)
		if size > 0 && rapid.Bool().Draw(t, "different") {
			text[rapid.IntRange(0, size-1).Draw(t, "where")] = 'x'
		}
		response, err := proto.Marshal(&discoveryv3.DeltaDiscoveryResponse{TypeUrl: Routes, Nonce: fmt.Sprint(messages), RemovedResources: []string{string(text)}})
		if err != nil {
			t.Fatal(err)
		}
		messages++
		whole = append(binary.BigEndian.AppendUint32(append(whole, 0), uint32(len(response))), response...)
	}
	for len(whole) > 0 {
		if rapid.Bool().Draw(t, "pinged") {
			b = append(frame{length: 8, kind: pingFrame}.append(b), "12345678"...)
		}
		n := min(len(whole), rapid.IntRange(0, maxFrame).Draw(t, "frame"))
		b = append(frame{length: n, kind: dataFrame, stream: onlyStream}.append(b), whole[:n]...)
		whole = whole[n:]
	}
	return b, messages
}

func TestHowBytesComeChangesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		said, messages := spoken(t)
		l, c := reader(t)
		if err := l.take(c, said); err != nil {
			t.Fatal(err)
		}
		want, understood := bytes.Clone(l.out), removed(c.state.has[Routes])
		if len(understood) != messages {
			t.Fatalf("%d of %d messages were understood", len(understood), messages)
		}
		if got := l.fleet.counts.acks.Load(); got != int64(messages) {
			t.Fatalf("%d answers to %d messages", got, messages)
		}
		l, c = reader(t)
		for len(said) > 0 {
			n := min(len(said), rapid.IntRange(1, 500).Draw(t, "piece"))
			if rapid.IntRange(0, 9).Draw(t, "large") == 0 {
				n = min(len(said), 20000)
			}
			if err := l.take(c, said[:n]); err != nil {
				t.Fatal(err)
			}
			said = said[n:]
		}
		if !bytes.Equal(want, l.out) {
			t.Fatalf("answered %q, not %q", l.out, want)
		}
		if !slices.Equal(removed(c.state.has[Routes]), understood) {
			t.Fatal("it was understood as something else")
		}
		if l.room.left != l.room.most {
			t.Fatalf("%d bytes of room are lost", l.room.most-l.room.left)
		}
	})
}

// An answer to a ping may come late behind much else.
func TestAnyFrameIsASignOfLife(t *testing.T) {
	for _, hears := range []bool{true, false} {
		l, c := reader(t)
		l.clients = []*client{c}
		c.opened, c.pinged, c.pingAt = true, true, time.Now().Add(-time.Second)
		if hears {
			if err := l.take(c, appendWindow(nil, 0, 5)); err != nil {
				t.Fatal(err)
			}
		}
		l.ping(time.Now())
		if losses := l.fleet.counts.losses.Load(); hears != (losses == 0) {
			t.Errorf("heard a frame: %t, connections given up: %d", hears, losses)
		}
	}
}

// removed is what responses removed, one after the other.
func removed(h *holds) []string {
	if h == nil {
		return nil
	}
	return append(removed(h.before), h.removed...)
}

func FuzzWhateverAServerSaysIsTakenOrRefused(f *testing.F) {
	f.Add([]byte{})
	f.Add(appendWindow(nil, 0, 5))
	f.Add([]byte(frameMessage(make([]byte, 40000))))
	f.Add(appendAck(nil, Layers, []byte("7")))
	f.Fuzz(func(t *testing.T, said []byte) {
		l, c := reader(t)
		_ = l.take(c, said) // it may be refused; it must not panic
	})
}
