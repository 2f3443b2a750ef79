// Package policy holds rampart's words and its decisions, and touches nothing outside memory.
//
// Documents are what operators write (Service, Gateway); Served is what the fleet is given; Decide is the pure step from one Served to the next. Nothing
// here reads a clock, a file or a socket: callers pass in all that was read, with one now per turn, and carry out what is returned.
package policy
