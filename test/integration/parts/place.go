package parts

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
)

// root finds the top of the source tree, which the test's folder lies in.
func root() (string, error) {
	dir, err := os.Getwd()
	for err == nil {
		mod, missing := os.ReadFile(filepath.Join(dir, "go.mod"))
		if missing == nil && bytes.HasPrefix(mod, []byte("module forebay\n")) {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("the test does not run within the source tree")
		}
		dir = filepath.Dir(dir)
	}
	return "", err
}

// part is the folder of a part, which `make parts` fetched.
func part(t testing.TB, name string) string {
	t.Helper()
	top, err := root()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(top, ".parts", name)
	if _, err := os.Stat(filepath.Join(dir, "made-of")); err != nil {
		t.Fatalf("%s is missing: run `make parts PART=%s`", name, name)
	}
	return dir
}

// Program is the path of a program that Debian's package of that name brings.
func Program(t testing.TB, name, debian string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is missing: apt-get install %s", name, debian)
	}
	return path
}

// java is a command of the JVM, which may take so much heap ("256m").
func java(t testing.TB, heap, classpath string, args ...string) *exec.Cmd {
	t.Helper()
	flags := []string{"-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx" + heap, "-cp", classpath}
	return exec.Command(Program(t, "java", "default-jre-headless"), append(flags, args...)...)
}

// freePort finds a port that a server may be started on again and again: below
// those that the system gives to outgoing connections.
func freePort(t testing.TB) int {
	t.Helper()
	for range 1000 {
		port := 10_000 + rand.IntN(22_000)
		ln, err := net.Listen("tcp", local(port))
		if err != nil {
			continue
		}
		if ln.Close() == nil {
			return port
		}
	}
	t.Fatal("no port is free between 10000 and 32000")
	return 0
}

func local(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
