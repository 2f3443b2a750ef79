package xds

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
)

// hashLen is the number of hexadecimal digits of content hash in a version: 64 bits, enough to tell
// a resource's contents apart.
const hashLen = 16

// subsetLen is the same for the hash of which parts a stream got.
const subsetLen = 8

// noParts is the subset of a resource that was sent without any of its parts.
const noParts = "none"

// version is "<cluster>.<revision>/<hash>[~<subset>][+<tag>]": where and when the content was
// published, what it is, which of its parts a stream got, and the tag of its publisher.
type version struct {
	cluster  string
	revision int64
	content  string // hash, subset and tag as written: equal content is the same bytes, whoever published it and when
	tag      string
}

// String writes the version as proxies see it.
func (v version) String() string {
	return fmt.Sprintf("%s.%d/%s", v.cluster, v.revision, v.content)
}

// writtenVersion is a version as it was read, without its tag.
type writtenVersion struct {
	cluster, content []byte
	revision         int64
}

// readVersion splits what String wrote. It reports false for what has another shape.
func readVersion(text []byte) (v writtenVersion, ours bool) {
	origin, content, found := bytes.Cut(text, []byte{'/'})
	dot := bytes.LastIndexByte(origin, '.')
	if !found || dot < 1 || len(content) < hashLen {
		return v, false
	}
	v.cluster, v.content = origin[:dot], content
	digits := origin[dot+1:]
	if len(digits) == 0 || len(digits) > 18 { // of 63 bits
		return v, false
	}
	for _, d := range digits {
		if d < '0' || d > '9' {
			return v, false
		}
		v.revision = v.revision*10 + int64(d-'0')
	}
	return v, true
}

// parseVersion reads what String wrote. It reports false for the versions of other control planes.
func parseVersion(text string) (version, bool) {
	v, ours := readVersion([]byte(text))
	if !ours {
		return version{}, false
	}
	if _, err := hex.DecodeString(string(v.content[:hashLen])); err != nil {
		return version{}, false
	}
	content := string(v.content)
	_, tag, _ := strings.Cut(content, "+")
	return version{cluster: string(v.cluster), revision: v.revision, content: content, tag: tag}, true
}

// contentOf joins the parts of a version that say what a stream holds.
func contentOf(hash, subset, tag string) string {
	if subset != "" {
		hash += "~" + subset
	}
	if tag != "" {
		hash += "+" + tag
	}
	return hash
}

// hashOf is the content hash of a resource: everything that a proxy can see of it. Lengths are
// hashed too, so that bytes cannot move between parts unnoticed.
func hashOf(r Resource) string {
	sum := sha256.New()
	var length [8]byte
	write := func(body []byte) {
		binary.LittleEndian.PutUint64(length[:], uint64(len(body)))
		sum.Write(length[:])
		sum.Write(body)
	}
	write(r.Body)
	for _, part := range r.Parts {
		write(part.Body)
	}
	binary.LittleEndian.PutUint64(length[:], uint64(r.TTL))
	sum.Write(length[:])
	return hex.EncodeToString(sum.Sum(nil))[:hashLen]
}

// subsetOf names the parts that were included, by their content, so that every replica names the
// same subset alike.
func subsetOf(parts []Part) string {
	if len(parts) == 0 {
		return noParts
	}
	sum := sha256.New()
	var length [8]byte
	for _, part := range parts {
		binary.LittleEndian.PutUint64(length[:], uint64(len(part.Body)))
		sum.Write(length[:])
		sum.Write(part.Body)
	}
	return hex.EncodeToString(sum.Sum(nil))[:subsetLen]
}
