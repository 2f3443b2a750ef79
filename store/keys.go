package store

import (
	"strconv"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Prefix is what all of rampart's keys begin with.
const Prefix = "/rampart/v1/"

// Kind says what a key holds.
type Kind int

// The kinds of keys. A Stray lies under the prefix and belongs to none of them: its Name is the whole key.
const (
	Stray Kind = iota
	ServiceDoc
	GatewayDoc
	ServedService
	ServedGateway
	Permit
	Pause
	Order
	Beat
	Adopt
	replicaReport // watched by WatchReplicas only
	aside         // evidence, readings, history, rollbacks and the election: read when asked for, never watched
)

// String names the kind in the operator's words.
func (k Kind) String() string {
	return [...]string{"stray key", "service", "gateway", "served service", "served gateway", "permit", "pause", "order", "beat", "adopt",
		"replica", "record"}[k]
}

// folder is where a kind's keys lie, below the prefix. Beat and Adopt are single keys.
func (k Kind) folder() string {
	switch k {
	case ServiceDoc:
		return "services/"
	case GatewayDoc:
		return "gateways/"
	case ServedService:
		return "served/services/"
	case ServedGateway:
		return "served/gateways/"
	case Permit:
		return "permits/"
	case Pause:
		return "pauses/"
	case Order:
		return "orders/"
	case replicaReport:
		return "replicas/"
	default:
		return ""
	}
}

// asideFolders are not watched, in the order of their keys: an answer of a proxy or a record written there can never cause a push.
func asideFolders() []string {
	return []string{"evidence/", "history/", "leader/", "readings/", "replicas/", "rollbacks/"}
}

// place is a parsed key.
type place struct {
	kind    Kind
	name    string // service, gateway or replica; the whole key of a Stray
	release string // of a permit
}

// parse tells what a key is. Whether a name is a good one is for policy to say; here it only has to be a name.
func parse(key string) place {
	rest, ours := strings.CutPrefix(key, Prefix)
	stray := place{kind: Stray, name: key}
	switch {
	case !ours:
		return stray
	case rest == "beat":
		return place{kind: Beat}
	case rest == "adopt":
		return place{kind: Adopt}
	}
	for _, kind := range []Kind{ServiceDoc, GatewayDoc, ServedService, ServedGateway, Permit, Pause, Order, replicaReport} {
		if name, found := strings.CutPrefix(rest, kind.folder()); found {
			return parseName(kind, name, stray)
		}
	}
	for _, folder := range asideFolders() {
		if strings.HasPrefix(rest, folder) {
			return place{kind: aside, name: rest}
		}
	}
	return stray
}

func parseName(kind Kind, name string, stray place) place {
	found := place{kind: kind, name: name}
	if kind == Permit {
		found.name, found.release, _ = strings.Cut(name, "/")
		if !proper(found.release) {
			return stray
		}
	}
	if !proper(found.name) {
		return stray
	}
	return found
}

// proper reports whether s can be one part of a key: printable ASCII without a slash, not too long to print.
func proper(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' || s[i] == '/' {
			return false
		}
	}
	return s != "" && len(s) <= 253
}

// key is the reverse of parse.
func (p place) key() string {
	switch p.kind {
	case Stray:
		return p.name
	case Beat:
		return Prefix + "beat"
	case Adopt:
		return Prefix + "adopt"
	case Permit:
		return permitKey(p.name, p.release)
	default:
		return Prefix + p.kind.folder() + p.name
	}
}

// Key returns the etcd key of a service's or gateway's document, served copy, pause or order, for messages that name it.
func Key(kind Kind, name string) string { return place{kind: kind, name: name}.key() }

func permitKey(service, release string) string { return Prefix + "permits/" + service + "/" + release }

func evidenceKey(service string) string { return Prefix + "evidence/" + service }

func rollbackKey(service, release string) string {
	return Prefix + "rollbacks/" + service + "/" + release
}

func historyFolder(service string) string { return Prefix + "history/" + service + "/" }

// historyKey pads the revision so that a service's lines sort by it.
func historyKey(service string, revision int64) string {
	digits := strconv.FormatInt(revision, 10)
	return historyFolder(service) + strings.Repeat("0", max(0, 20-len(digits))) + digits
}

// span is a range of keys, the end excluded.
type span struct{ from, end string }

func folderSpan(folder string) span {
	return span{from: folder, end: clientv3.GetPrefixRangeEnd(folder)}
}

// watchedSpans are the gaps between the folders that are not watched. Whatever else lies under the prefix is in them, so strays are seen.
func watchedSpans() []span {
	all := folderSpan(Prefix)
	var spans []span
	from := all.from
	for _, folder := range asideFolders() {
		hole := folderSpan(Prefix + folder)
		spans = append(spans, span{from: from, end: hole.from})
		from = hole.end
	}
	return append(spans, span{from: from, end: all.end})
}
