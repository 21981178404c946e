package parts

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// StartSyslogNG starts syslog-ng with a configuration, which says all but its version.
func StartSyslogNG(t testing.TB, config string) *Process {
	t.Helper()
	root, dir := filepath.Join(part(t, "syslog-ng"), "root"), t.TempDir()
	file := filepath.Join(dir, "syslog-ng.conf")
	write(t, file, "@version: 3.38\n%s", config)
	plugins, err := filepath.Glob(filepath.Join(root, "usr/lib/syslog-ng/3.*"))
	if err != nil || len(plugins) == 0 {
		t.Fatalf("syslog-ng has no plugins under %s", root)
	}
	p := &Process{t: t, name: "syslog-ng", within: time.Minute, command: func() *exec.Cmd {
		return unpacked(root, "usr/sbin/syslog-ng", "--foreground", "--no-caps", "--stderr", "--cfgfile="+file,
			"--module-path="+plugins[0], "--persist-file="+filepath.Join(dir, "persist"),
			"--pidfile="+filepath.Join(dir, "pid"), "--control="+filepath.Join(dir, "control"))
	}}
	p.ready = p.says("syslog-ng starting up")
	p.start()
	return p
}

// StartRsyslog starts rsyslog with a configuration in its own language.
func StartRsyslog(t testing.TB, config string) *Process {
	t.Helper()
	root, dir := filepath.Join(part(t, "rsyslog"), "root"), t.TempDir()
	file := filepath.Join(dir, "rsyslog.conf")
	write(t, file, "global(workDirectory=%q)\n%s", dir, config)
	plugins, err := filepath.Glob(filepath.Join(root, "usr/lib/*/rsyslog"))
	if err != nil || len(plugins) == 0 {
		t.Fatalf("rsyslog has no plugins under %s", root)
	}
	p := &Process{t: t, name: "rsyslog", within: time.Minute, command: func() *exec.Cmd {
		return unpacked(root, "usr/sbin/rsyslogd", "-n", "-f", file, "-M", plugins[0], "-i", filepath.Join(dir, "pid"))
	}}
	p.ready = func() bool { _, err := os.Stat(filepath.Join(dir, "pid")); return err == nil }
	p.start()
	return p
}

// unpacked is a command of a Debian package that is not installed.
func unpacked(root, program string, args ...string) *exec.Cmd {
	var folders []string
	for _, pattern := range []string{"lib/*", "usr/lib/*"} {
		found, _ := filepath.Glob(filepath.Join(root, pattern)) // the pattern is well formed
		folders = append(folders, found...)
	}
	cmd := exec.Command(filepath.Join(root, program), args...)
	cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+strings.Join(folders, ":"))
	return cmd
}

// StartTelegraf starts Telegraf with a configuration: it can follow files and
// post what they hold.
func StartTelegraf(t testing.TB, config string) *Process {
	t.Helper()
	program := filepath.Join(part(t, "telegraf"), "bin", "telegraf")
	file := filepath.Join(t.TempDir(), "telegraf.conf")
	write(t, file, "%s", config)
	p := &Process{t: t, name: "telegraf", within: time.Minute, command: func() *exec.Cmd {
		return exec.Command(program, "--config", file)
	}}
	p.ready = p.says("Loaded outputs")
	p.start()
	return p
}

// Python is a command that runs a script which may use opensearch-py.
func Python(t testing.TB, script string, args ...string) *exec.Cmd {
	t.Helper()
	site := filepath.Join(part(t, "opensearch-py"), "site")
	cmd := exec.Command(Program(t, "python3", "python3"), append([]string{"-c", script}, args...)...)
	cmd.Env = append(os.Environ(), "PYTHONPATH="+site, "PYTHONDONTWRITEBYTECODE=1")
	endWithParent(cmd)
	return cmd
}
