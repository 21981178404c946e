package parts

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// HDFSUser owns the root of the file system and may do all.
const HDFSUser = "hdfs"

// HDFS is a file system of one NameNode and one DataNode, each of which can be
// killed alone.
type HDFS struct {
	t        testing.TB
	URL      string // of the NameNode: http://host:port
	DataHost string // of the DataNode: the host:port that WebHDFS redirects to
	NameNode *Process
	DataNode *Process
	Standby  *Process // the other NameNode of a pair; nil: there is none
	URLs     []string // of both NameNodes of a pair

	classpath, conf, data string
}

// StartHDFS starts a file system. The settings are lines of hdfs-site.xml, over ours.
func StartHDFS(t testing.TB, settings map[string]string) *HDFS {
	t.Helper()
	h, site := newHDFS(t)
	name, rpc := local(freePort(t)), local(freePort(t))
	h.URL = "http://" + name
	site["dfs.namenode.http-address"], site["dfs.namenode.rpc-address"] = name, rpc
	maps.Copy(site, settings)
	h.configure(site, rpc)
	run(t, h.server("128m", "namenode.NameNode", "-format", "-nonInteractive"))
	h.NameNode = h.process("namenode", h.lists, "128m", "namenode.NameNode")
	h.DataNode = h.process("datanode", h.stores, "96m", "datanode.DataNode")
	h.NameNode.start()
	h.DataNode.start()
	return h
}

// newHDFS is a file system without NameNodes, and its settings.
func newHDFS(t testing.TB) (*HDFS, map[string]string) {
	t.Helper()
	lib, conf, data := filepath.Join(part(t, "hdfs"), "lib", "*"), t.TempDir(), local(freePort(t))
	h := &HDFS{t: t, DataHost: data, conf: conf, classpath: conf + ":" + lib, data: filepath.Join(conf, "data")}
	site := hdfsSite(conf)
	site["dfs.datanode.http.address"] = data
	site["dfs.datanode.address"] = local(freePort(t))
	site["dfs.datanode.ipc.address"] = local(freePort(t))
	return h, site
}

// configure writes what all of its servers read.
func (h *HDFS) configure(site map[string]string, authority string) {
	h.t.Helper()
	write(h.t, filepath.Join(h.conf, "hdfs-site.xml"), "%s", siteXML(site))
	write(h.t, filepath.Join(h.conf, "core-site.xml"), "%s", siteXML(map[string]string{"fs.defaultFS": "hdfs://" + authority}))
	write(h.t, filepath.Join(h.conf, "log4j.properties"), "%s", "log4j.rootLogger=INFO,out\n"+
		"log4j.appender.out=org.apache.log4j.ConsoleAppender\nlog4j.appender.out.target=System.err\nlog4j.appender.out.layout=org.apache.log4j.PatternLayout\n"+
		"log4j.appender.out.layout.ConversionPattern=%d{ISO8601} %p %c{1}: %m%n\n")
	for _, app := range []string{"hdfs", "datanode"} { // which the jars lack, and the servers look for
		if err := os.MkdirAll(filepath.Join(h.conf, "webapps", app), 0o700); err != nil {
			h.t.Fatal(err)
		}
	}
}

func (h *HDFS) server(heap, class string, args ...string) *exec.Cmd {
	return h.java(heap, append([]string{"org.apache.hadoop.hdfs.server." + class}, args...)...)
}

func (h *HDFS) process(name string, ready func() bool, heap, class string, args ...string) *Process {
	return &Process{t: h.t, name: name, within: 2 * time.Minute, ready: ready, command: func() *exec.Cmd {
		return h.server(heap, class, args...)
	}}
}

// java is a command of Hadoop's.
func (h *HDFS) java(heap string, args ...string) *exec.Cmd {
	h.t.Helper()
	cmd := java(h.t, heap, h.classpath, args...)
	// Without it every call of WebHDFS fails on Java 17.
	cmd.Args = append([]string{cmd.Args[0], "--add-opens", "java.base/java.lang=ALL-UNNAMED"}, cmd.Args[1:]...)
	cmd.Env = append(os.Environ(), "HADOOP_USER_NAME="+HDFSUser)
	return cmd
}

// Shell runs a command of Hadoop's file system shell, such as -text and a path, and
// returns what it printed.
func (h *HDFS) Shell(args ...string) string {
	h.t.Helper()
	cmd := h.java("64m", append([]string{"org.apache.hadoop.fs.FsShell"}, args...)...)
	endWithParent(cmd)
	out, err := cmd.Output() // its log goes elsewhere
	if err != nil {
		h.t.Fatalf("%v: %v", args, err)
	}
	return string(out)
}

// SpaceQuota bounds the bytes that files under a folder may take, replicas counted.
func (h *HDFS) SpaceQuota(folder string, bytes int64) {
	h.t.Helper()
	if _, err := h.do(http.MethodPut, folder, "SETQUOTA", url.Values{"storagespacequota": {fmt.Sprint(bytes)}}, nil); err != nil {
		h.t.Fatal(err)
	}
}

// Writing reports whether the DataNode is amid writing a block. Those that it left when
// it was killed count until it has started again.
func (h *HDFS) Writing() bool {
	blocks, err := filepath.Glob(filepath.Join(h.data, "current", "BP-*", "current", "rbw", "blk_*"))
	if err != nil {
		h.t.Fatal(err)
	}
	return len(blocks) > 0
}

func hdfsSite(dir string) map[string]string {
	return map[string]string{
		"dfs.namenode.name.dir":                   filepath.Join(dir, "name"),
		"dfs.datanode.data.dir":                   filepath.Join(dir, "data"),
		"dfs.datanode.hostname":                   "127.0.0.1",
		"dfs.replication":                         "1",
		"dfs.heartbeat.interval":                  "1",
		"dfs.namenode.heartbeat.recheck-interval": "1000",
		"dfs.namenode.safemode.min.datanodes":     "1",
		"dfs.namenode.safemode.extension":         "0",
		"dfs.namenode.safemode.threshold-pct":     "1.0",
		// A CREATE takes 30 ms for 400.
		"dfs.client.block.write.locateFollowingBlock.initial.delay.ms": "5",
		// There is no other DataNode to write to.
		"dfs.client.block.write.replace-datanode-on-failure.policy": "NEVER",
	}
}

func siteXML(settings map[string]string) string {
	var text strings.Builder
	text.WriteString("<configuration>\n")
	for line := range strings.Lines(lines(settings)) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		fmt.Fprintf(&text, "<property><name>%s</name><value>%s</value></property>\n", name, value)
	}
	text.WriteString("</configuration>\n")
	return text.String()
}

// WaitReady returns once a file can be written: after a restart of the NameNode
// it is in safe mode for some seconds.
func (h *HDFS) WaitReady() {
	h.t.Helper()
	Until(h.t, 2*time.Minute, "hdfs stores a file", h.stores)
}

func (h *HDFS) lists() bool {
	_, err := h.do(http.MethodGet, "/", "LISTSTATUS", nil, nil)
	return err == nil
}

func (h *HDFS) stores() bool {
	if h.create("/.probe", []byte("x")) != nil {
		return false
	}
	_, err := h.do(http.MethodDelete, "/.probe", "DELETE", nil, nil)
	return err == nil
}

// do carries out one operation, following the redirect to the DataNode, and
// returns what was answered, which has to be one of 2xx.
func (h *HDFS) do(method, file, op string, more url.Values, body []byte) ([]byte, error) {
	query := url.Values{"op": {op}, "user.name": {HDFSUser}}
	maps.Copy(query, more)
	at := (&url.URL{Scheme: "http", Host: strings.TrimPrefix(h.URL, "http://"), Path: "/webhdfs/v1" + file, RawQuery: query.Encode()}).String()
	if body != nil {
		to, err := h.redirected(method, at)
		if err != nil {
			return nil, err
		}
		at = to
	}
	status, answer, err := call(method, at, "application/octet-stream", body)
	if err == nil && status == http.StatusTemporaryRedirect {
		err = fmt.Errorf("%s leads elsewhere", op)
	}
	if err == nil && status/100 != 2 {
		err = fmt.Errorf("%s %s = %d: %s", op, file, status, answer)
	}
	return answer, err
}

// redirected asks the NameNode where to do something.
func (h *HDFS) redirected(method, at string) (string, error) {
	status, answer, err := call(method, at+"&noredirect=true", "", nil)
	if err != nil {
		return "", err
	}
	var to struct{ Location string }
	if err := json.Unmarshal(answer, &to); err != nil || to.Location == "" {
		return "", fmt.Errorf("the NameNode answered %d: %s", status, answer)
	}
	return to.Location, nil
}

func (h *HDFS) create(file string, data []byte) error {
	_, err := h.do(http.MethodPut, file, "CREATE", url.Values{"overwrite": {"true"}}, data)
	return err
}

// Create writes a file, over the one that was there.
func (h *HDFS) Create(file string, data []byte) {
	h.t.Helper()
	if err := h.create(file, data); err != nil {
		h.t.Fatal(err)
	}
}

// Read returns what a file holds.
func (h *HDFS) Read(file string) []byte {
	h.t.Helper()
	where, err := h.do(http.MethodGet, file, "OPEN", url.Values{"noredirect": {"true"}}, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	var to struct{ Location string }
	if err := json.Unmarshal(where, &to); err != nil {
		h.t.Fatalf("OPEN %s answered %s", file, where)
	}
	status, data, err := call(http.MethodGet, to.Location, "", nil)
	if err != nil || status != http.StatusOK {
		h.t.Fatalf("OPEN %s = %d, %v: %s", file, status, err, data)
	}
	return data
}

// Files are the paths of all files under a folder. One that is not there has none.
func (h *HDFS) Files(folder string) []string {
	h.t.Helper()
	answer, err := h.do(http.MethodGet, folder, "LISTSTATUS", nil, nil)
	if err != nil && strings.Contains(err.Error(), "FileNotFoundException") {
		return nil
	}
	var list struct {
		FileStatuses struct {
			FileStatus []struct{ PathSuffix, Type string }
		}
	}
	if err == nil {
		err = json.Unmarshal(answer, &list)
	}
	if err != nil {
		h.t.Fatalf("LISTSTATUS %s answered %s: %v", folder, answer, err)
	}
	var files []string
	for _, f := range list.FileStatuses.FileStatus {
		at := path.Join(folder, f.PathSuffix)
		if f.Type == "DIRECTORY" {
			files = append(files, h.Files(at)...)
		} else {
			files = append(files, at)
		}
	}
	return files
}
