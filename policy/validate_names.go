package policy

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// The rules below look at one value and say what is wrong with it, or "".

const (
	lowerLetters = "abcdefghijklmnopqrstuvwxyz"
	digits       = "0123456789"
	// tokens are what RFC 9110 allows in methods and header names, without capitals.
	tokens = lowerLetters + digits + "!#$%&'*+-.^_`|~"
)

// consists reports whether a text has only letters of an alphabet of ASCII.
func consists(text, alphabet string) bool {
	return !strings.ContainsFunc(text, func(letter rune) bool { return !strings.ContainsRune(alphabet, letter) })
}

// nameProblem is the rule for the names of services, gateways and backends: DNS labels, because dots and colons would break Envoy's names, and not "none",
// which names the missing half of an arm.
func nameProblem(name, example string) string {
	switch {
	case name == "":
		return "missing; expected a name such as " + example
	case name == "none":
		return `"none" is reserved; expected another name`
	case !label(name, lowerLetters+digits+"-"):
		return fmt.Sprintf("%s; expected a name of a-z, 0-9 and -, at most 63, with a letter or digit at both ends", quoted(name))
	}
	return ""
}

// label reports whether text is a label of a domain name over an alphabet.
func label(text, alphabet string) bool {
	return text != "" && len(text) <= 63 && consists(text, alphabet) && text[0] != '-' && text[len(text)-1] != '-'
}

// domain reports whether text is a domain name. Underscores are used in practice.
func domain(text string) bool {
	for part := range strings.SplitSeq(strings.ToLower(text), ".") {
		if !label(part, lowerLetters+digits+"-_") {
			return false
		}
	}
	return len(text) <= longestWord
}

// hostProblem is the rule for hosts: a name, a wildcard for a whole first label and more, or everything. Envoy ignores the port of a request's Host header.
func hostProblem(host string) string {
	const expected = "expected a name such as shop.example.com, *.example.com or *"
	name := strings.TrimPrefix(host, "*.")
	switch {
	case host == "*" || domain(name):
		return ""
	case endsInPort(host):
		return fmt.Sprintf("%s has a port; expected the name alone: ports in the Host header are ignored", quoted(host))
	case !consists(strings.ToLower(host), lowerLetters+digits+"-_.*"):
		return fmt.Sprintf("%s; %s, in ASCII (xn--…)", quoted(host), expected)
	}
	return fmt.Sprintf("%s; %s", quoted(host), expected)
}

// endsInPort reports whether a text ends like an address with a port.
func endsInPort(host string) bool {
	colon := strings.LastIndexByte(host, ':')
	return colon > 0 && consists(host[colon+1:], digits) && !strings.HasSuffix(host, ":")
}

// pathProblem is the rule for what a route matches. Envoy compares a path without its query, as it came over the wire.
func pathProblem(path string) string {
	switch {
	case path == "":
		return ""
	case strings.ContainsAny(path, "?#"):
		return fmt.Sprintf("%s; expected a path without ? and #: a query is not part of what is matched", quoted(path))
	}
	return requestPathProblem(path)
}

// requestPathProblem is the rule for a path that goes over the wire; a health check's may have a query.
func requestPathProblem(path string) string {
	switch {
	case path == "":
		return ""
	case path[0] != '/':
		return fmt.Sprintf("%s; expected a path that starts with /", quoted(path))
	case strings.ContainsFunc(path, func(letter rune) bool { return letter <= ' ' || letter > '~' }):
		return fmt.Sprintf("%s; expected visible ASCII: everything else is percent-encoded in a request", quoted(path))
	}
	return ""
}

// methodProblem is the rule for methods. They are case-sensitive (RFC 9110, 9.1): get would never match.
func methodProblem(method string) string {
	upper := strings.ToUpper(method)
	switch {
	case method == "" || !consists(strings.ToLower(method), tokens):
		return fmt.Sprintf("%s; expected a method such as GET", quoted(method))
	case method != upper:
		return fmt.Sprintf("%s; methods are in capitals, case matters: %s", quoted(method), quoted(upper))
	}
	return ""
}

// headerProblem is the rule for a header that a route matches exactly: what no request can have is refused.
func headerProblem(name, value string) string {
	switch {
	case name == "" || !consists(strings.ToLower(name), tokens):
		return "no header's name; expected one such as x-tier"
	case strings.EqualFold(name, "host"):
		return "the host is matched by `hosts`"
	case value == "" || strings.TrimSpace(value) != value:
		return fmt.Sprintf("%s; expected a value without spaces at its ends: a request's has none", quoted(value))
	case strings.ContainsFunc(value, func(letter rune) bool { return letter < ' ' || letter == 0x7f }):
		return fmt.Sprintf("%s; expected a value in one line", quoted(value))
	}
	return ""
}

// wordProblem is the rule for revisions: any text that prints in one line.
func wordProblem(word string) string {
	switch {
	case len(word) > longestWord:
		return fmt.Sprintf("%s; expected at most %d bytes", quoted(word), longestWord)
	case !strconv.CanBackquote(word) || strings.ContainsAny(word, "\t\u2028\u2029") || strings.TrimSpace(word) != word:
		return fmt.Sprintf("%s; expected one line without spaces at its ends", quoted(word))
	}
	return ""
}

// portProblem is the rule for the part of an address behind its last colon.
func portProblem(address, port string) string {
	if number, err := strconv.Atoi(port); err != nil || number < 1 || number > 65535 || strconv.Itoa(number) != port {
		return fmt.Sprintf("%s: %s is no port; expected 1 to 65535", quoted(address), quoted(port))
	}
	return ""
}

// endpointProblem is the rule for an endpoint: the IP address and port of one instance, as Envoy needs it.
func endpointProblem(endpoint string) string {
	const expected = "expected an address and a port, such as 10.0.0.1:8080 or [fd00::1]:8080"
	host, port, found := cutPort(endpoint)
	if !found {
		return fmt.Sprintf("%s has no port; %s", quoted(endpoint), expected)
	}
	if problem := portProblem(endpoint, port); problem != "" {
		return problem
	}
	// IPv6 addresses stand in brackets and IPv4 addresses do not; anything else is a slip.
	bare, bracketed := strings.CutPrefix(host, "[")
	bare = strings.TrimSuffix(bare, "]")
	ip, err := netip.ParseAddr(bare)
	switch {
	case err != nil && domain(host) && !consists(host, digits+"."):
		return fmt.Sprintf("%s is a name; use dns: %s", quoted(endpoint), clip(endpoint))
	case err != nil || ip.Zone() != "" || ip.Is6() != bracketed || len(host) != len(bare)+2*strings.Count(host, "["):
		return fmt.Sprintf("%s; %s", quoted(endpoint), expected)
	case ip.IsUnspecified() || ip.IsMulticast():
		return fmt.Sprintf("%s is not the address of an instance; %s", quoted(endpoint), expected)
	}
	return ""
}

// cutPort cuts an address at its last colon, unless that belongs to an IPv6 address.
func cutPort(address string) (host, port string, found bool) {
	colon := strings.LastIndexByte(address, ':')
	if colon < 0 || strings.HasSuffix(address, "]") || (strings.Count(address, ":") > 1 && !strings.Contains(address, "]")) {
		return address, "", false
	}
	return address[:colon], address[colon+1:], true
}

// canonicalAddress makes equal addresses equal texts.
func canonicalAddress(endpoint string) string {
	address, err := netip.ParseAddrPort(endpoint)
	if err != nil {
		return endpoint
	}
	return netip.AddrPortFrom(address.Addr().Unmap(), address.Port()).String()
}

// dnsProblem is the rule for a name that Envoy resolves by itself.
func dnsProblem(address string) string {
	const expected = "expected a name and a port, such as green.internal:8080"
	host, port, found := cutPort(address)
	if !found {
		return fmt.Sprintf("%s; %s", quoted(address), expected)
	}
	if problem := portProblem(address, port); problem != "" {
		return problem
	}
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return fmt.Sprintf("%s is an address; use endpoints: [%q]", quoted(address), address)
	}
	if !domain(host) || consists(host, digits+".") {
		return fmt.Sprintf("%s; %s", quoted(address), expected)
	}
	return ""
}

// listenProblem is the rule for the address of a listener: an IP address of the machine, or all of them.
func listenProblem(address string) string {
	if ip, err := netip.ParseAddr(address); err != nil || ip.Zone() != "" {
		if address == "" {
			return "missing; expected an IP address such as 0.0.0.0"
		}
		return fmt.Sprintf("%s; expected an IP address such as 0.0.0.0", quoted(address))
	}
	return ""
}

// canonical makes listeners on the same address equal. One without a port is zero.
func (l Listener) canonical() Listener {
	if l.Port == 0 {
		return Listener{}
	}
	if ip, err := netip.ParseAddr(l.Address); err == nil {
		l.Address = ip.Unmap().String()
	}
	return l
}
