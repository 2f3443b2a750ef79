// Package fleet is many Envoys in one process, as far as their control plane can tell: each has a connection and a delta ADS stream of its own and subscribes,
// answers and comes back as Envoy 1.40 does with the bootstrap that rampart writes. TestItAsksWhatARealEnvoyAsks compares them.
//
// It is made to cost less than the server it asks: HTTP/2 frames are made once and shared, each response is read with one call and answered with one, and what all
// clients are sent alike is understood once.
package fleet
