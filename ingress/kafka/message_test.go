package kafka

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"

	"forebay/buffer"
)

func makerOf(t testing.TB, policy string) maker {
	t.Helper()
	set := parsed(t, policy, "127.0.0.1:1")
	return maker{path: set.Sources[0].Path, stream: set.Stream("orders"), set: set}
}

// one is the message of one record.
func (m *maker) one(r *kgo.Record) (msg buffer.Message, why *refusal) {
	why = m.batch().message(r, &msg, new(buffer.Origin))
	return msg, why
}

func TestMessage(t *testing.T) {
	at := time.Date(2027, 11, 11, 8, 26, 3, int(45*time.Millisecond), time.FixedZone("CST", 8*3600))
	const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	record := &kgo.Record{
		Topic: "orders.raw", Partition: 3, Offset: 1042, Timestamp: at, Key: []byte("berlin 7"), Value: []byte(` {"id":7}`),
		Headers: []kgo.RecordHeader{
			{Key: "x-shop", Value: []byte("north")},
			{Key: "X-SHOP", Value: []byte("south")},
			{Key: "ce_type", Value: []byte("order")},
			{Key: "my header", Value: []byte("ä\n")},
			{Key: "x-colons", Value: []byte(":YQ==:")},
			{Key: "x-empty"},
			{Key: "", Value: []byte("nameless")},
			{Key: "traceparent", Value: []byte(trace)},
			{Key: "x-request-id", Value: []byte("r-1")},
			{Key: "idempotency-key", Value: []byte("i-1")},
			// None of these is stored of a request either.
			{Key: "authorization", Value: []byte("Bearer x")},
			{Key: "cookie", Value: []byte("a=b")},
			{Key: "host", Value: []byte("h")},
			{Key: "content-length", Value: []byte("9")},
			{Key: "connection", Value: []byte("close")},
			{Key: "forebay-id", Value: []byte("mine")},
			{Key: "forebay-source", Value: []byte("other/0/0")},
			{Key: "x-forwarded-for", Value: []byte("1.2.3.4")},
			{Key: "x-storefront-key", Value: []byte("secret")},
			{Key: "via", Value: []byte("1.1 x")},
			{Key: "transfer_encoding", Value: []byte("chunked")},
		},
	}
	m := makerOf(t, onePolicy)
	got, why := m.one(record)
	if why != nil {
		t.Fatal(why)
	}
	got.Header, got.Origin = got.Fields(), nil
	want := buffer.Message{
		Method: "POST", Target: "/v1/orders", Body: record.Value, Key: "berlin 7",
		Header: []buffer.Field{
			{Name: "Ce-Type", Value: "order"},
			{Name: "Content-Type", Value: "application/json"},
			{Name: "Forebay-Source", Value: "orders.raw/3/1042"},
			{Name: "Forebay-Source-Key", Value: "berlin 7"},
			{Name: "Forebay-Source-Time", Value: "2027-11-11T00:26:03.045Z"},
			{Name: "Forebay-Source-Names", Value: "x-shop, X-SHOP, my%20header, x-colons, x-empty, x-request-id, idempotency-key, x-storefront-key"},
			{Name: "Idempotency-Key", Value: "i-1"},
			{Name: "My%20header", Value: ":w6QK:"},
			{Name: "Traceparent", Value: trace},
			{Name: "X-Colons", Value: ":OllRPT06:"},
			{Name: "X-Empty", Value: ""},
			{Name: "X-Request-Id", Value: "r-1"},
			{Name: "X-Shop", Value: "north"},
			{Name: "X-Shop", Value: "south"},
			{Name: "X-Storefront-Key", Value: "secret"},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("message (-want +got):\n%s", diff)
	}
}

// TestMessageOfLittle: null values, keys that are none, and keys of bytes.
func TestMessageOfLittle(t *testing.T) {
	m := makerOf(t, onePolicy)
	for name, tt := range map[string]struct {
		record          kgo.Record
		key, field      string
		tombstone, kind string
	}{
		"tombstone":  {kgo.Record{Key: []byte("k")}, "k", "k", "true", ""},
		"empty":      {kgo.Record{Key: []byte{}, Value: []byte{}}, "", "", "", ""},
		"no key":     {kgo.Record{Value: []byte("[1]")}, "", "", "", "application/json"},
		"bytes":      {kgo.Record{Key: []byte{0xff, 0}, Value: []byte("x")}, ":/wA=:", ":/wA=:", "", ""},
		"other text": {kgo.Record{Key: []byte("ä"), Value: []byte("x")}, "ä", ":w6Q=:", "", ""},
	} {
		got, why := m.one(&tt.record)
		if why != nil || got.Key != tt.key || field(got, buffer.SourceKeyField) != tt.field || field(got, tombstoneField) != tt.tombstone || field(got, "Content-Type") != tt.kind || len(got.Body) != len(tt.record.Value) {
			t.Errorf("%s: %+v, %v", name, got, why)
		}
	}
}

func TestMessageRefused(t *testing.T) {
	m := makerOf(t, onePolicy)
	for name, tt := range map[string]struct {
		record kgo.Record
		want   string
	}{
		"value at the bound": {kgo.Record{Value: make([]byte, 100<<10)}, ""},
		"value":              {kgo.Record{Value: make([]byte, 100<<10+1)}, "too-large"},
		"key":                {kgo.Record{Key: make([]byte, maxFields)}, "headers-too-large"},
		"headers":            {kgo.Record{Headers: []kgo.RecordHeader{{Key: "a", Value: make([]byte, maxFields/2)}, {Key: "b", Value: make([]byte, maxFields/2)}}}, "headers-too-large"},
	} {
		_, why := m.one(&tt.record)
		if (why == nil) != (tt.want == "") || why != nil && why.reason != tt.want {
			t.Errorf("%s: refused for %v, want %q", name, why, tt.want)
		}
	}
}

// TestKeyOfHeader: keys are read from what is stored of the headers.
func TestKeyOfHeader(t *testing.T) {
	m := makerOf(t, strings.Replace(onePolicy, `"kafka:key"`, `"header:X-Shop", "kafka:key"`, 1))
	got, why := m.one(&kgo.Record{Key: []byte("k"), Headers: []kgo.RecordHeader{{Key: "x-shop", Value: []byte("north")}}})
	if why != nil || got.Key != "north/k" {
		t.Errorf("key %q, %v", got.Key, why)
	}
}

func FuzzField(f *testing.F) {
	f.Add("x y", []byte("a\x00"))
	f.Add("ce_id", []byte(":a:"))
	f.Fuzz(func(t *testing.T, name string, value []byte) {
		for _, c := range fieldName(name) {
			if !isToken(c) {
				t.Errorf("the name %q becomes %q", name, fieldName(name))
			}
		}
		got := fieldValue(value)
		for i := range len(got) {
			if got[i] < ' ' || got[i] > '~' {
				t.Errorf("the value %q becomes %q", value, got)
			}
		}
		if strings.TrimSpace(got) != got {
			t.Errorf("the value %q becomes %q, with space around it", value, got)
		}
	})
}

// FuzzPlace: what is no place is none, and a place comes back as it was.
func FuzzPlace(f *testing.F) {
	f.Add("orders.raw/00/0", "7 1")
	f.Add(partition{topic: "t", n: 3}.part(), "9 -1")
	f.Fuzz(func(t *testing.T, part, at string) {
		p, x, ok := readPlace(buffer.Bookmark{Part: part, At: at})
		if !ok {
			return
		}
		again, y, ok := readPlace(p.bookmark(x))
		if !ok || again != p || x != y {
			t.Errorf("%q %q is %v %v, then %v %v", part, at, p, x, again, y)
		}
	})
}

// What headers take counts: records of little else would make batches without a bound.
func TestSizeOfARecord(t *testing.T) {
	r := &kgo.Record{Key: make([]byte, 3), Value: make([]byte, 4), Headers: []kgo.RecordHeader{{Key: "ab", Value: make([]byte, 5000)}, {Key: "c"}}}
	if got, want := sizeOf(r), int64(recordBytes+3+4+2+5000+1); got != want {
		t.Errorf("a record takes %d bytes, want %d", got, want)
	}
}
