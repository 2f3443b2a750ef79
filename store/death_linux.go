package store

import "syscall"

// dieWithParent makes the kernel kill the child when the thread that starts it ends, also when our process is killed.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }
