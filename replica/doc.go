// Package replica is one rampart process at work: the serving half, which renders what is committed and pushes it, and the deciding half, which on the leader
// turns readings into the next committed state. The two meet only in etcd; what they share in memory is what the watch delivered.
//
// Promises: nothing reaches a proxy that is not committed, except a rollback, which is pushed from memory first; a document that cannot be read, a key that
// vanished or an etcd that is gone never changes what proxies hold.
package replica
