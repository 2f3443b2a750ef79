package xds

import (
	"math/rand/v2"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
)

// FuzzRequests reads its bytes as a script of requests, well formed or not, of four streams in both protocols, among publications and time that passes. Nothing may
// panic, what a stream costs is bounded, every message can be read by a proxy, and when the streams have ended nothing is left of them.
func FuzzRequests(f *testing.F) {
	f.Add([]byte("\x00\x01\x00\x03\x04\x04\x05\x06\x00\x11\x02\x04\x04"))
	f.Add([]byte("\x02\x00\x01\x00\x07\x07\x02\x00\x01\x01\x07\x07\x03\x09\x02\x00\x01\x10\x07"))
	f.Add([]byte("\x05\x00\x1c\x12\x1atype.googleapis.com/x\x1a\x01a\x04\x00"))
	addScripts(f, 200, 2000)
	f.Fuzz(func(t *testing.T, script []byte) {
		z := newFuzzed(t, script)
		for len(z.script) > 0 {
			z.step()
			z.check()
		}
		z.end()
	})
}

// addScripts begins a fuzzer's corpus with so many random scripts of up to so many bytes.
func addScripts(f *testing.F, scripts, longest int) {
	random := rand.New(rand.NewPCG(1, 2))
	for range scripts {
		script := make([]byte, 1+random.IntN(longest))
		for i := range script {
			script[i] = byte(random.Uint32())
		}
		f.Add(script)
	}
}

// fuzzed is a server with streams that do what a script says.
type fuzzed struct {
	t       *testing.T
	script  []byte
	now     time.Time
	s       *Server
	streams [4]fuzzedStream
}

type fuzzedStream struct {
	session  *session // that the server has of it, if it is not one of FuzzStreams
	greeted  bool     // its first message went
	protocol Protocol
	sent     []answerable // the newest that it was sent
}

type answerable struct {
	url, nonce string
	versions   map[string]string
}

const (
	fuzzedNames = 40
	fuzzedLayer = 8
)

func newFuzzed(t *testing.T, script []byte) *fuzzed {
	z := &fuzzed{t: t, script: script, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	z.s = New(Config{
		Cluster: "c1", Now: func() time.Time { return z.now }, Group: func(n *corev3.Node, _ Protocol) string { return n.GetCluster() },
		Held:   func(Key, string) {},
		Log:    sound(t),
		Limits: Limits{Types: 6, Names: fuzzedNames, Layers: fuzzedLayer, Requests: 1 << 20},
	})
	z.s.Open()
	for i := range z.streams {
		z.streams[i].protocol = Protocol(i % 2)
	}
	return z
}

// byte takes the script's next byte, 0 when it is over.
func (z *fuzzed) byte() byte {
	if len(z.script) == 0 {
		return 0
	}
	b := z.script[0]
	z.script = z.script[1:]
	return b
}

func (z *fuzzed) pick(from ...string) string { return from[int(z.byte())%len(from)] }

func (z *fuzzed) url() string {
	return z.pick(ClusterType, EndpointType, ListenerType, RouteType, RuntimeType, "type.googleapis.com/other", "", "t/1", "t/2")
}

func (z *fuzzed) name() string { return z.pick("*", "a", "b", "c", "d", "e", "", "ü") }

func (z *fuzzed) names() (all []string) {
	for range z.byte() % 8 {
		all = append(all, z.name())
	}
	return all
}

func (z *fuzzed) step() {
	one := &z.streams[z.byte()%4]
	switch z.byte() % 10 {
	case 0, 1:
		z.say(one, z.request(one))
	case 2:
		z.say(one, z.raw())
	case 3:
		z.publishes()
	case 4:
		z.now = z.now.Add(time.Duration(z.byte()) * 100 * time.Millisecond)
		z.s.expelSilent(z.now)
	case 5:
		z.s.Prove(z.now)
	case 6:
		z.leave(one)
	case 7, 8:
		z.deliver(one)
	case 9:
		z.s.Adopt("c2")
	}
}

// raw takes some of the script for a message.
func (z *fuzzed) raw() []byte {
	length := int(z.byte())
	raw := z.script[:min(length, len(z.script))]
	z.script = z.script[len(raw):]
	return raw
}

func (z *fuzzed) publishes() {
	z.s.Publish(z.s.reached()+int64(z.byte()%2), []Update{{Group: z.pick("edge", "", "x"), Set: z.resources(), Remove: []Key{{z.url(), z.name()}}, Urgent: z.byte()%4 == 0}})
}

func (z *fuzzed) resources() (all []Resource) {
	seen := map[Key]bool{}
	for range z.byte()%4 + 1 {
		r := Resource{Key: Key{z.url(), z.name()}, Body: []byte{z.byte()}}
		if seen[r.Key] {
			continue
		}
		seen[r.Key] = true
		for i := range z.byte() % 3 {
			r.Parts = append(r.Parts, Part{Name: z.name(), Body: []byte{i}, Needs: []Need{{Key: Key{z.url(), z.name()}, Accepted: i == 0}}})
		}
		if r.Type == RuntimeType && z.byte()%2 == 0 {
			r.TTL = 3 * time.Second
		}
		if z.byte()%8 == 0 {
			r.Tag = "t"
		}
		all = append(all, r)
	}
	return all
}

// request is a well-formed request of a stream, as bytes.
func (z *fuzzed) request(one *fuzzedStream) []byte {
	var last answerable
	if len(one.sent) > 0 {
		last = one.sent[int(z.byte())%len(one.sent)]
	}
	url, nonce := last.url, last.nonce
	if z.byte()%3 == 0 {
		url, nonce = z.url(), z.pick("", "1", "zz", nonce)
	}
	node := &corev3.Node{Id: z.pick("n", "n", "m"), Cluster: z.pick("edge", "edge", "x")}
	var refused *rpcstatus.Status
	if z.byte()%4 == 0 {
		refused = &rpcstatus.Status{Code: 3, Message: "no\xffno"[:z.byte()%3]}
	}
	var m proto.Message
	if one.protocol == Delta {
		d := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: url, ResponseNonce: nonce, ErrorDetail: refused, ResourceNamesSubscribe: z.names(), ResourceNamesUnsubscribe: z.names()}
		if z.byte()%3 == 0 || !one.greeted {
			d.InitialResourceVersions = last.versions
		}
		if !one.greeted {
			d.Node = node
		}
		m = d
	} else {
		d := &discoveryv3.DiscoveryRequest{TypeUrl: url, ResponseNonce: nonce, ErrorDetail: refused, ResourceNames: z.names(), VersionInfo: z.pick("", "x", "c1.99/0123456789abcdef", "c2.1/0123456789abcdef")}
		if !one.greeted {
			d.Node = node
		}
		m = d
	}
	wire, err := proto.Marshal(m)
	if err != nil {
		z.t.Fatal(err)
	}
	return wire
}

// say has a stream receive a message, its first one included, and ends it when the server would.
func (z *fuzzed) say(one *fuzzedStream, wire []byte) {
	r := z.s.newRequest(one.protocol)
	if err := (codec{}).Unmarshal(mem.BufferSlice{mem.SliceBuffer(wire)}, r); err != nil {
		z.leave(one)
		return
	}
	defer r.free()
	if one.session == nil {
		joined, _, err := z.s.join(nobody(), r)
		if err != nil {
			return
		}
		one.session, one.greeted = joined, true
	}
	if err := one.session.apply(r); err != nil {
		z.leave(one)
	}
}

// leave ends a stream. What it was sent it remembers, as a proxy does.
func (z *fuzzed) leave(one *fuzzedStream) {
	if one.session != nil {
		z.s.part(one.session)
		one.session, one.greeted = nil, false
	}
}

// deliver takes a stream's next message.
func (z *fuzzed) deliver(one *fuzzedStream) {
	if one.session == nil {
		return
	}
	o := one.session.upcoming(z.now)
	if o.flight == nil {
		return
	}
	checkLast(z.t.Fatalf, one.session, o, z.now)
	z.remember(one, o.frame.buffers.Materialize())
}

// remember has a stream read a message, so that it can answer it.
func (z *fuzzed) remember(one *fuzzedStream, wire []byte) {
	a := answerable{versions: map[string]string{}}
	if one.protocol == Delta {
		d := &discoveryv3.DeltaDiscoveryResponse{}
		if err := proto.Unmarshal(wire, d); err != nil {
			z.t.Fatalf("a proxy cannot read %q: %v", wire, err)
		}
		a.url, a.nonce = d.TypeUrl, d.Nonce
		for _, one := range d.Resources {
			a.versions[one.Name] = one.Version
		}
	} else {
		d := &discoveryv3.DiscoveryResponse{}
		if err := proto.Unmarshal(wire, d); err != nil {
			z.t.Fatalf("a proxy cannot read %q: %v", wire, err)
		}
		a.url, a.nonce = d.TypeUrl, d.Nonce
	}
	one.sent = append(one.sent, a)
	one.sent = one.sent[max(0, len(one.sent)-4):]
}

// check fails if a stream costs more than it may.
func (z *fuzzed) check() {
	for i := range z.streams {
		if one := z.streams[i].session; one != nil {
			z.checkStream(one)
		}
	}
}

func (z *fuzzed) checkStream(one *session) {
	one.group.mu.Lock()
	defer one.group.mu.Unlock()
	checkInFlight(z.t.Fatalf, one, true)
	bytes, flying := 0, map[*interest]int{}
	for _, f := range one.flights {
		bytes += f.size
		if !f.beat {
			flying[f.t]++
		}
	}
	if bytes != one.unanswered || len(one.types) > 6 {
		z.t.Fatalf("%d bytes are unanswered, counted %d; %d types", bytes, one.unanswered, len(one.types))
	}
	for _, t := range one.types {
		published := len(one.group.shelf(t.url).entries)
		// What it names, what is published, and what it brought along.
		most := 2*fuzzedNames + published
		if t.names.len() > fuzzedNames || t.apart.len() > most || t.dirty.len() > most || len(t.suspects) > most {
			z.t.Fatalf("%s: %d names, %d apart, %d dirty, %d suspects", t.url, t.names.len(), t.apart.len(), t.dirty.len(), len(t.suspects))
		}
		if t.flying != flying[t] || t.flying > (published+fuzzedLayer)*maxOvertaking+1 {
			z.t.Fatalf("%s: %d in flight, counted %d", t.url, flying[t], t.flying)
		}
		for name, h := range t.apart.all() {
			if h.flying < 0 || h.beats < 0 || h.beats > 1 || len(h.parked) > maxParked || !t.wants(name) {
				z.t.Fatalf("%s %q, wanted %v: %+v", t.url, name, t.wants(name), h)
			}
		}
	}
}

// end ends all streams and fails if the server remembers any of them.
func (z *fuzzed) end() {
	for i := range z.streams {
		z.leave(&z.streams[i])
	}
	if len(z.s.nodes) > 0 || z.s.open != 0 {
		z.t.Fatalf("%d nodes and %d streams are left", len(z.s.nodes), z.s.open)
	}
	for name, g := range z.s.groups {
		if len(g.sessions) > 0 || g.empty() && name != "edge" && name != "" && name != "x" {
			z.t.Fatalf("group %q is left with %d streams", name, len(g.sessions))
		}
	}
}
