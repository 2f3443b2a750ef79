package envoy

import "fmt"

// Dated says in words what an Envoy of this version lacks, as in "Envoy 1.38.2"; "" is nothing, or not an Envoy. It is served all the same.
func Dated(version string) string {
	var major, minor int
	if _, err := fmt.Sscanf(version, "Envoy %d.%d", &major, &minor); err != nil || major != 1 {
		return ""
	}
	switch {
	case minor < 36:
		return "older than 1.36, the oldest Envoy that rampart was tried with"
	case minor < 38:
		// envoy-measured.md §14
		return "older than 1.38: it keeps no statistics of running releases, so what passes through it is judged by errors alone, not by latency or gRPC status"
	case minor < 39:
		// envoy-measured.md §2
		return "older than 1.39: its load reports leave out refused connections, which are read from its statistics up to a second later"
	}
	return ""
}
