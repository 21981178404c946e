// Package kafka reads topics of Kafka into streams, as a consumer group.
//
// How far a source has read lies in the buffer, in the commit of the messages that it
// read: no record is lost or stored twice, whenever the process, a broker or the
// group's session ends. The offsets that the group has at the brokers are written
// afterwards, for those who look at its lag. While the buffer takes nothing, the source
// waits, and tells why. A record that cannot be stored stops its partition, or goes
// to a topic of its own.
//
// Not promised: once between several nodes. When a partition moves to another one, what was
// stored in the last seconds may come again there.
package kafka
