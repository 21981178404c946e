// Package webhdfs gathers messages in files on HDFS, through the REST interface of its
// NameNodes (WebHDFS of Hadoop 3).
//
// A file is written as FOLDER/.forebay-DRAIN-FIRST-TIME.tmp, which readers pass over, and
// gets its name, with the range of offsets that it holds, once it is whole:
// forebay-DRAIN-FIRST-LAST.log. Only then are its messages delivered. So nobody sees half
// a file, and a range that was renamed before a crash is known by its name at the next
// start. Whatever fails while a file is written ends the file: it is deleted, and its
// range is written again.
//
// HDFS answers nearly every mistake with 403, so that what is done about one depends on
// the name of the exception, not on the status.
package webhdfs
