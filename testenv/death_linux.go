package testenv

import "syscall"

// dieWithParent makes the kernel kill the child when the thread that started it ends, which it does at the latest when our process is killed.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }
