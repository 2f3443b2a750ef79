// Package store is the only package that knows etcd and rampart's keys.
//
// Promises: a batch of the watch is one etcd revision, in order, and none is missed; what a leader saves is fenced by its election and by everything it was
// decided on; a permit can be deleted by anyone at any time, even when etcd is out of space; what was latched on this machine survives a crash. Values are
// handed over as they stand in etcd: reading them is the caller's task, so that nothing an operator can write stops a watch.
package store
