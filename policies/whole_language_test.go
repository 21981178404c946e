package policies

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"forebay/limiter"
)

const wholeLanguage = "testdata/whole-language.yaml"

// elsewhere is a world that has the calendar alone, as the machine of someone has
// who only looks at a policy.
func elsewhere() *outside {
	o := beside(wholeLanguage)
	o.offline = true
	read := o.read
	o.read = func(name string) ([]byte, error) {
		if strings.HasPrefix(name, "/") {
			return nil, fs.ErrNotExist
		}
		return read(name)
	}
	return o
}

func parseWhole(text string) *findings {
	_, found, _ := parseWith([]File{{Name: "whole-language.yaml", Data: []byte(text)}}, elsewhere())
	return found
}

// Of the whole language, nothing is unknown: what this version does not have is
// refused by name, once each, and files that are elsewhere are warnings.
func TestWholeLanguage(t *testing.T) {
	found := parseWhole(readText(t, wholeLanguage))
	mistakes := found.errors()
	for _, m := range mistakes {
		if !strings.HasSuffix(m.Message, " is not supported yet") {
			t.Errorf("%v\nwant nothing but what is not supported yet", m.Detail())
		}
	}
	golden(t, "testdata/whole-language.want", mistakes.Error()+"\n"+found.list(found.warnings, Warning).Error()+"\n")
}

// A slip of the pen anywhere in the language, in what this version does not have
// too, is reported at its line and column, by the loader and by the schema.
func TestEverySlipIsFound(t *testing.T) {
	t.Parallel()
	text, schema := readText(t, wholeLanguage), policySchema(t)
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	tried := make(map[string]bool) // what stands in several items, once
	slip := func(path string, n *yaml.Node, slip, message string) {
		if !tried[path+slip] {
			tried[path+slip] = true
			wantSlip(t, schema, text, path, n, slip, message)
		}
	}
	var walk func(n *yaml.Node, path string)
	walk = func(n *yaml.Node, path string) {
		for i, child := range n.Content {
			switch {
			case n.Kind == yaml.MappingNode && i%2 == 0:
				slip(path, child, child.Value+"q", "unknown key ")
			case n.Kind == yaml.MappingNode:
				walk(child, path+"."+n.Content[i-1].Value)
			default:
				walk(child, path+"[]")
			}
		}
		if n.Kind == yaml.ScalarNode {
			slip(path, n, "{ q: 1 }", "")
		}
	}
	walk(doc.Content[0], "")
	if len(tried) < 300 {
		t.Errorf("%d slips were tried: the policy is not whole", len(tried))
	}
}

// wantSlip puts something else in the place of a scalar.
func wantSlip(t *testing.T, schema map[string]any, text, path string, n *yaml.Node, slip, message string) {
	t.Helper()
	lines := strings.Split(text, "\n")
	line, written := []rune(lines[n.Line-1]), n.Value
	if n.Style&yaml.DoubleQuotedStyle != 0 {
		written = `"` + n.Value + `"`
	}
	at := n.Column - 1
	if got := string(line[at : at+len([]rune(written))]); got != written {
		t.Fatalf("%s: %q stands at line %d, column %d", path, got, n.Line, n.Column)
	}
	lines[n.Line-1] = string(line[:at]) + slip + string(line[at+len([]rune(written)):])
	text = strings.Join(lines, "\n")
	for _, m := range parseWhole(text).errors() {
		if m.Line == n.Line && m.Column == n.Column && strings.HasPrefix(m.Message, message) && !strings.HasSuffix(m.Message, "not supported yet") {
			if wrong := validateText(t, schema, text); wrong == "" {
				t.Errorf("%s: the schema accepts %q in the place of %s", path, slip, written)
			}
			return
		}
	}
	t.Errorf("%s: %q in the place of %s is not reported at line %d, column %d", path, slip, written, n.Line, n.Column)
}

func readText(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// What is a warning for who looks at the policy is a mistake for who runs it.
func TestMissingFilesAtStart(t *testing.T) {
	o := elsewhere()
	o.offline = false
	_, found, _ := parseWith([]File{{Name: "whole-language.yaml", Data: []byte(readText(t, wholeLanguage))}}, o)
	var missing []string
	for _, m := range found.errors() {
		if strings.Contains(m.Message, "file does not exist") {
			missing = append(missing, m.Message)
		}
	}
	if len(missing) != 8 || len(found.warnings) != 0 {
		t.Errorf("missing = %q and %d warnings, want keys_file, ca_file twice, a certificate, its key and three secrets as mistakes", missing, len(found.warnings))
	}
}

func TestLoadOffline(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "p.yaml", `version: 1
streams: [{ name: s, when_full: shed_lowest_priority }]
auth: [{ name: a, api_key: { keys_file: keys.txt } }]
`)
	_, missing, err := LoadOffline([]string{dir + "/p.yaml"})
	var mistakes Errors
	if !errors.As(err, &mistakes) || len(mistakes) != 1 || len(missing) != 1 || missing[0].Severity != Warning {
		t.Fatalf("LoadOffline found %v and %v, want one mistake and one warning", err, missing)
	}
	if want := fmt.Sprintf(`%s/p.yaml:3:41: warning: keys_file: file "%[1]s/keys.txt": no such file or directory`, dir); missing[0].Error() != want {
		t.Errorf("warning = %s\nwant %s", missing[0].Error(), want)
	}
	files, err := Files([]string{dir + "/p.yaml"})
	if want := fmt.Sprint([]string{dir + "/keys.txt", dir + "/p.yaml"}); err != nil || fmt.Sprint(files) != want {
		t.Errorf("Files = %v, %v; want %s", files, err, want)
	}
}

// What is refused for now is compiled all the same, so that the version that
// builds it finds its values, and warnings that know it.
func TestWholeLanguageIsCompiled(t *testing.T) {
	set, _, _ := parseWith([]File{{Name: "whole-language.yaml", Data: []byte(readText(t, wholeLanguage))}}, elsewhere())
	if warnings := Check(set, now); len(warnings) > 0 {
		t.Errorf("Check warns:\n%v", warnings)
	}
	orders, events, search, archive := set.Sink("order-service"), set.Sink("registration-events"), set.Sink("log-search"), set.Sink("log-archive")
	drain, create, pay, logs := set.Drain("orders-to-service"), set.route("create-order"), set.route("pay"), set.route("logs")
	tests := map[string]struct{ got, want any }{
		"api key": {set.Auth[0], Auth{Name: "storefront", APIKey: &APIKey{Header: "X-Api-Key", KeysFile: "/run/secrets/forebay/api_keys"}}},
		"jwt": {set.Auth[1], Auth{Name: "partners", JWT: &JWT{
			&url.URL{Scheme: "https", Host: "id.example.com", Path: "/"}, []string{"forebay"}, []string{"RS256", "ES256"}, "client_id",
		}}},
		"mtls": {set.Auth[2], Auth{Name: "mesh", MTLS: &MTLS{"/etc/forebay/tls/clients-ca.pem", "san_uri"}}},
		"limits": {set.Limits, []Limit{
			{"everyone", limiter.Limit{Rate: 20000, Burst: 40000}, nil, 1, 64, ScopeLocal, StoreLocal},
			{"per-customer", limiter.Limit{Rate: 5, Burst: 20}, []LimitKey{{Word: "principal"}, {Header: "X-Customer-Id"}}, 200000, 64, ScopeCluster, StoreLocal},
			{"per-ip", limiter.Limit{Rate: 50, Burst: 100}, []LimitKey{{Word: "client_ip"}}, 100000, 64, ScopeLocal, StoreLocal},
		}},
		"budget": {orders.Budget, Budget{
			limiter.Limit{Rate: 800, Burst: 200}, 128, 0.6, 0, ConcurrencyAdaptive, 4, ScopeLocal, StoreLocal,
		}},
		"bytes":      {archive.Budget.Bytes, int64(40 << 20)},
		"oauth2":     {orders.HTTP.OAuth2, &OAuth2{&url.URL{Scheme: "https", Host: "id.example.com", Path: "/oauth2/token"}, "forebay", Secret{}}},
		"signatures": {len(orders.HTTP.SignSecrets), 1},
		"may cancel": {orders.MayCancel, true},
		"batch":      {set.Sink("email").HTTP.Batch, &Batch{20, 5 << 20, 200 * time.Millisecond, BatchJSONArray}},
		"kafka": {events.Kafka, &KafkaSink{
			KafkaConnection{Brokers: []string{"kafka-1:9093"}, TLS: &TLS{}, SASL: &SASL{SASLScramSHA512, "forebay", Secret{}}},
			"registrations.v1", AcksAll, "zstd", 2 << 20, 2 * time.Second, 10 * time.Second, &ConsumerLag{"crm", 100000},
		}},
		"no http": {events.HTTP, (*HTTPSink)(nil)},
		"search": {search.Elasticsearch, &ElasticsearchSink{
			HTTP:  HTTPSink{URLs: []*url.URL{{Scheme: "https", Host: "es-1:9200"}}, ConnectTimeout: 2 * time.Second, Timeout: 30 * time.Second},
			Index: IndexName{[]indexPart{{word: "logs-"}, {day: true}}}, Location: time.UTC, Bulk: Bulk{1000, 5 << 20, 200 * time.Millisecond}, Compression: "gzip",
		}},
		"archive":     {archive.WebHDFS.Roll, Roll{128 << 20, 15 * time.Minute}},
		"compression": {archive.WebHDFS.Compression, "gzip"},
		"tenant":      {set.Streams[0].Tenant, keyOf(t, "header:X-Shop")},
		"priority":    {set.Streams[0].Priority, Priority{5, "Forebay-Priority", []int{3, 5, 7}}},
		"cancel key":  {set.Streams[0].CancelKey, CancelKeys(keyOf(t, "json:/items/*/sku"))},
		"weight":      {[2]int{drain.Weight, drain.Priority}, [2]int{4, 5}},
		"floor":       {drain.Schedule.Floor, limiter.Rate(20)},
		"ramp":        {drain.Schedule.Entries[2].Ramp, 5 * time.Minute},
		"urgent":      {drain.Deadline, Deadline{60 * time.Hour, EndDead, 12 * time.Hour, 200}},
		"source": {set.Sources, []Source{{
			"legacy-orders", &KafkaSource{
				KafkaConnection{Brokers: []string{"kafka-1:9093"}, TLS: &TLS{ServerName: "kafka.internal"}}, []string{"orders.raw"}, "forebay",
			}, "orders", "/v1/orders", true, time.Time{}, "",
		}}},
		"overflow":  {[]any{create.Mode, create.Sink, create.Stream, create.HoldUpTo, create.Timing}, []any{ModeOverflow, "order-service", "orders", 800 * time.Millisecond, true}},
		"callers":   {[]any{create.Auth, create.Limits}, []any{[]*Auth{&set.Auth[0], &set.Auth[1]}, []string{"everyone", "per-customer"}}},
		"hold":      {[]any{pay.Mode, pay.HoldUpTo, pay.MaxWaiting}, []any{ModeHold, 2 * time.Second, 2000}},
		"shadow":    {[]bool{create.Shadow, logs.Shadow}, []bool{false, true}},
		"pass":      {set.route("read-orders").Mode, ModePass},
		"when full": {set.Streams[0].WhenFull, FullReject},
	}
	for name, tt := range tests {
		if diff := cmp.Diff(tt.want, tt.got, cmp.AllowUnexported(Secret{}, APIKey{}), cmp.Comparer(func(a, b *time.Location) bool { return a == b })); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func (s *Set) route(name string) Route {
	return *find(s.Routes, name, func(r *Route) string { return r.Name })
}

func TestUnusedCallers(t *testing.T) {
	set, _, _ := parseWith([]File{{Name: "p.yaml", Data: []byte(`version: 1
auth: [{ name: storefront, mtls: { ca_file: /ca.pem } }, { name: used, mtls: { ca_file: /ca.pem } }]
limits: [{ name: everyone, rate: 5/s }, { name: taken, rate: 5/s }]
streams: [{ name: s }]
sinks: [{ name: k, http: { urls: ["https://k.internal"] }, budget: { rate: 5/s } }]
drains: [{ name: d, stream: s, sink: k }]
routes: [{ name: r, match: {}, mode: buffer, stream: s, auth: [used], limits: [taken], idempotency: { required: true } }]
`)}}, elsewhere())
	var got []string
	for _, w := range Check(set, now) {
		got = append(got, w.Message)
	}
	want := []string{"no route uses auth entry storefront", "no route uses limit everyone"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}

func TestDubiousLimits(t *testing.T) {
	set, found, _ := parseWith([]File{{Name: "p.yaml", Data: []byte(`version: 1
limits: [{ name: shut, rate: 0 }, { name: each, rate: 5/s, key: ["header:X-A", principal] }, { name: address, rate: 5/s, key: [client_ip] }]
streams: [{ name: s }]
sinks: [{ name: k, http: { urls: ["https://k.internal"] }, budget: { rate: 5/s } }]
drains: [{ name: d, stream: s, sink: k }]
routes: [{ name: r, match: {}, mode: buffer, stream: s, limits: [shut, each, address] }]
`)}}, elsewhere())
	if found.count() > 0 {
		t.Fatal(found.errors())
	}
	want := []string{
		"limit shut lets nothing through: its rate is 0",
		"callers of route r have no principal: limit each tells them apart by address",
	}
	var got []string
	for _, w := range Check(set, now) {
		got = append(got, w.Message)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}

func TestWhereSourcesStart(t *testing.T) {
	for from, want := range map[string]Source{
		"latest": {}, "oldest": {FromOldest: true}, `"2027-11-10T00:00:00+08:00"`: {Since: time.Date(2027, 11, 9, 16, 0, 0, 0, time.UTC)},
		"2027-11-10T00:00:00Z": {Since: time.Date(2027, 11, 10, 0, 0, 0, 0, time.UTC)},
	} {
		set, found, _ := parseWith([]File{{Name: "p.yaml", Data: []byte(`version: 1
streams: [{ name: s }]
sources: [{ name: k, kafka: { brokers: ["k:9092"], topics: [t], group: g }, stream: s, on_refused: { topic: r }, from: ` + from + " }]\n")}}, elsewhere())
		got := set.Sources[0]
		if got.FromOldest != want.FromOldest || !got.Since.Equal(want.Since) || got.RefusedTopic != "r" || found.count() != 0 {
			t.Errorf("from: %s is %+v with %v, want %+v", from, got, found.items, want)
		}
	}
}
