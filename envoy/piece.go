package envoy

import (
	"bytes"
	"slices"

	"github.com/rampart-proxy/rampart/xds"
)

// piece is a service's share of a resource, or a resource of its own.
type piece struct {
	body  []byte
	at    int64 // the revision at which it last changed; 0: never
	fresh bool  // it changed since the last Flush
}

type pieces map[xds.Key]piece

// changes lists what is in one of both only, or has another body.
func (p pieces) changes(old pieces) []xds.Key {
	var changed []xds.Key
	for key, one := range p {
		if !bytes.Equal(old[key].body, one.body) {
			changed = append(changed, key)
		}
	}
	for key := range old {
		if _, has := p[key]; !has {
			changed = append(changed, key)
		}
	}
	return changed
}

func (p pieces) date(old pieces, changed []xds.Key, rev int64) {
	for key, one := range p {
		p[key] = one.dated(old[key], slices.Contains(changed, key), rev)
	}
}

func (p piece) dated(old piece, changed bool, rev int64) piece {
	if changed {
		return piece{body: p.body, at: rev, fresh: true}
	}
	return piece{body: p.body, at: old.at, fresh: old.fresh}
}

func (p pieces) settle(rev int64) {
	for key, one := range p {
		p[key] = one.settled(rev)
	}
}

func (p piece) settled(rev int64) piece {
	if p.fresh {
		p.at, p.fresh = max(p.at, rev), false
	}
	return p
}
