package kafka

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"forebay/buffer"
)

// topicID tells a topic from one that had its name before. Brokers before Kafka 2.8
// have none, which is zero.
type topicID [16]byte

// partition names one of a topic.
type partition struct {
	topic string
	id    topicID
	n     int32
}

func (p partition) String() string { return fmt.Sprintf("%s/%d", p.topic, p.n) }

// place is how far a partition has been read.
type place struct {
	next  int64 // offset of the first record that is not stored
	epoch int32 // of the leader that had the record before it; -1: not known
}

// bookmark is a place as the buffer keeps it: TOPIC/ID/PARTITION and OFFSET EPOCH.
func (p partition) bookmark(at place) buffer.Bookmark {
	return buffer.Bookmark{Part: p.part(), At: fmt.Sprintf("%d %d", at.next, at.epoch)}
}

func (p partition) part() string {
	return p.topic + "/" + hex.EncodeToString(p.id[:]) + "/" + strconv.Itoa(int(p.n))
}

// memberPart is the bookmark that keeps who the source is in its group, see member.
const memberPart = "member"

// readPlace is the reverse of bookmark. What is no place is passed over.
func readPlace(m buffer.Bookmark) (p partition, at place, ok bool) {
	parts := strings.Split(m.Part, "/") // no topic's name has a /
	if len(parts) != 3 {
		return p, at, false
	}
	id, err := hex.DecodeString(parts[1])
	n, err2 := strconv.ParseInt(parts[2], 10, 32)
	_, err3 := fmt.Sscanf(m.At, "%d %d", &at.next, &at.epoch)
	if err != nil || err2 != nil || err3 != nil || len(id) != len(p.id) || at.next < 0 {
		return p, at, false
	}
	return partition{topic: parts[0], id: topicID(id), n: int32(n)}, at, true
}
