// Package ship follows files of lines and posts what is written to them in
// compressed batches.
//
// What it promises: every whole line is sent in its file's order, and batches that
// are sent again have the bytes and the name that they had. Where a batch ends is on
// disk before it is sent, and that it was taken before the next one of its file is:
// so a receiver that knows names stores each line once, whatever is killed when. A
// batch is the bytes of a file from one offset to another, as they are. Memory is
// bounded by a few batches. What the receiver refuses for its content goes into a
// file, line by line.
//
// What it does not promise: what is truncated or deleted before it was read is lost,
// and said to be where that can be seen. A copy of a file is another file. Lines of
// two files, those of a renamed one and its successor too, have no order among
// themselves. A receiver forgets names after a time (a day, as Forebay comes).
package ship
