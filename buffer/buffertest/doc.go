// Package buffertest holds what tests of and around the buffer need: [Mem],
// its twin in memory; [Run], the conformance suite that every engine passes;
// and [RunModel], which compares an engine with a naive model under random
// operations.
//
// Mem has every capability that package buffer names. It starts no goroutine and
// never blocks, so that it can be used inside a testing/synctest bubble; what an
// engine does from time to time it does when [Mem.Housekeep] is called. It
// promises nothing about durability and keeps all that was ever appended: it is
// for tests alone.
package buffertest
