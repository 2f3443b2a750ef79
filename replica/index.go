package replica

import "github.com/rampart-proxy/rampart/policy"

// index finds the few services that matter in a state of many, so that no turn and no change looks at all of them. A test compares it with a full scan.
type index struct {
	hosts      policy.Hosts        // of what is served
	running    map[string]struct{} // a release runs
	unaccepted map[string]struct{} // the newest document is not what is served
	alarmed    map[string]struct{}
	comings    uint64 // how often a service began to be served, or ceased to be
}

func newIndex() index {
	return index{running: map[string]struct{}{}, unaccepted: map[string]struct{}{}, alarmed: map[string]struct{}{}}
}

// take notes a service as it is now.
func (x *index) take(name string, v *service) {
	if v.served.Serves() != (x.hosts.Has(name) != nil) {
		x.comings++
	}
	x.hosts.Set(name, v.served)
	member(x.running, name, v.releasing())
	member(x.unaccepted, name, v.docMod > 0 && !v.accepted())
	member(x.alarmed, name, v.alarm != "")
}

func member(of map[string]struct{}, name string, is bool) {
	if is {
		of[name] = struct{}{}
	} else {
		delete(of, name)
	}
}
