//go:build !linux

package testenv

import "syscall"

// dieWithParent can do nothing where the kernel has no parent death signal: a killed parent leaves its children running there.
func dieWithParent(*syscall.SysProcAttr) {}
