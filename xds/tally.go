package xds

import (
	"bytes"
	"encoding/binary"
)

// tally is what a request says of names and versions, in sums, made while it is read. Who comes back most often wants and has what others do, and is believed by comparing
// these: an Envoy beside 10,000 services names 30,000 resources, and nobody is to wait while they are looked at.
type tally struct {
	server *Server // fixed

	names  sum   // of what it subscribes to, without the wildcard
	named  int   // how many these are
	claims sum   // of the resources that it has, with their contents
	newest int64 // the newest revision of these
	others bool  // some of these were not published over the server's etcd cluster

	// While it is made.
	origin   []byte // what the last version began with: cluster and revision, and the slash behind them
	revision int64  // that
	scratch  []byte // for the next claim
}

// name counts a name that the client subscribes to.
func (t *tally) name(name []byte) {
	if string(name) != wildcardName {
		t.names, t.named = t.names.plus(t.server.seeds.of(name)), t.named+1
	}
}

// claim counts a resource that the client has. Most often thousands were published at one revision.
func (t *tally) claim(name, version []byte) {
	if t.others {
		return
	}
	content, same := bytes.CutPrefix(version, t.origin)
	if !same || len(t.origin) == 0 || len(content) < hashLen {
		v, ours := readVersion(version)
		if t.others = !ours || string(v.cluster) != t.server.cluster; t.others {
			return
		}
		content, t.revision, t.origin = v.content, v.revision, version[:len(version)-len(v.content)]
	}
	t.newest = max(t.newest, t.revision)
	t.scratch = appendClaim(t.scratch[:0], name, content)
	t.claims = t.claims.plus(t.server.seeds.of(t.scratch))
}

// made forgets what only its making needed.
func (t *tally) made() { t.origin, t.scratch = nil, nil }

// appendClaim writes a resource and its content so that no two are alike.
func appendClaim[T string | []byte](to []byte, name, content T) []byte {
	to = append(append(to, name...), content...)
	return binary.LittleEndian.AppendUint32(to, uint32(len(name)))
}
