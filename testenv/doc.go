// Package testenv is the real world in small: real Envoys, a real etcd, model servers with real HTTP, and load from outside. Tests, benchmarks and
// `rampart demo` run on it, so nothing here needs package testing.
//
// Promises: every process started here is in a process group of its own and dies with the process that started it, also when that one is killed; what is
// waited for is a condition, with an end given by a context; what Load calls failed is what its clients saw, whatever the servers say.
package testenv
