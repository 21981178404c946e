package parts

import (
	"os/exec"
	"syscall"
)

// endWithParent has the kernel kill the process when ours is gone, however it went.
func endWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
