// Package buffertest holds what tests of and around the buffer need: [Mem],
// its twin in memory; [Run], the conformance suite that every engine passes;
// and [RunModel], which compares an engine with a naive model under random
// operations.
//
// Mem starts no goroutine and never blocks, so that it can be used inside a
// testing/synctest bubble. It promises nothing about durability and forgets
// only the contents of finished messages: it is for tests alone.
package buffertest
