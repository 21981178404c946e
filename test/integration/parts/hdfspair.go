package parts

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// StartHDFSPair starts a file system of two NameNodes, the first of them active, that share
// their edits in a folder, and a DataNode that reports to both.
func StartHDFSPair(t testing.TB) *HDFS {
	t.Helper()
	h, site := newHDFS(t)
	site["dfs.nameservices"], site["dfs.ha.namenodes.pair"] = "pair", "nn1,nn2"
	site["dfs.namenode.shared.edits.dir"] = "file://" + filepath.Join(h.conf, "shared")
	site["dfs.client.failover.proxy.provider.pair"] = "org.apache.hadoop.hdfs.server.namenode.ha.ConfiguredFailoverProxyProvider"
	site["dfs.ha.fencing.methods"] = "shell(/bin/true)"
	site["dfs.ha.tail-edits.period"] = "1"
	delete(site, "dfs.namenode.name.dir")
	for _, id := range []string{"nn1", "nn2"} {
		name := local(freePort(t))
		h.URLs = append(h.URLs, "http://"+name)
		site["dfs.namenode.http-address.pair."+id], site["dfs.namenode.rpc-address.pair."+id] = name, local(freePort(t))
		site["dfs.namenode.name.dir.pair."+id] = filepath.Join(h.conf, id)
	}
	h.configure(site, "pair")
	h.URL = h.URLs[0]
	run(t, h.server("128m", "namenode.NameNode", "-Ddfs.ha.namenode.id=nn1", "-format", "-nonInteractive"))
	if err := os.CopyFS(filepath.Join(h.conf, "nn2"), os.DirFS(filepath.Join(h.conf, "nn1"))); err != nil {
		t.Fatal(err)
	}
	h.NameNode = h.process("nn1", answers(h.URLs[0]), "128m", "namenode.NameNode", "-Ddfs.ha.namenode.id=nn1")
	h.Standby = h.process("nn2", answers(h.URLs[1]), "128m", "namenode.NameNode", "-Ddfs.ha.namenode.id=nn2")
	h.DataNode = h.process("datanode", h.stores, "96m", "datanode.DataNode")
	h.NameNode.start()
	h.Standby.start()
	h.activate(h.NameNode)
	h.DataNode.start()
	return h
}

// answers reports whether a NameNode serves, active or not.
func answers(url string) func() bool {
	return func() bool {
		_, answer, err := call(http.MethodGet, url+"/webhdfs/v1/?op=LISTSTATUS&user.name="+HDFSUser, "", nil)
		return err == nil && (strings.Contains(string(answer), "FileStatuses") || strings.Contains(string(answer), "StandbyException"))
	}
}

// Failover makes the standby the active NameNode. The one before must have ended.
func (h *HDFS) Failover() {
	h.t.Helper()
	h.NameNode, h.Standby = h.Standby, h.NameNode
	h.URL = h.URLs[1]
	if h.NameNode.name == "nn1" {
		h.URL = h.URLs[0]
	}
	h.activate(h.NameNode)
}

func (h *HDFS) activate(node *Process) {
	h.t.Helper()
	run(h.t, h.java("64m", "org.apache.hadoop.hdfs.tools.DFSHAAdmin", "-transitionToActive", "--forceactive", node.name))
}
