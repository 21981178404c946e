// Package disk takes the power away from under a file system: [Disk] is a block
// device that forgets what was not flushed, and [Volume] an ext4 on one, or on a
// device without a cache. It is for tests alone, on Linux, as root.
package disk
