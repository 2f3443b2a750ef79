// Package xdsbench measures what it costs rampart to bring configuration to a fleet, beside what it costs the best server over grpc-go (package limit) in the same
// run, and how long it takes. Nothing in rampart knows of it: it runs the released binary over an etcd of its own, acts through etcd and xDS only, and reads what a
// process cost from the kernel. docs/xds.md says in plain words how each figure comes about.
package xdsbench
