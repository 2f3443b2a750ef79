//go:build !linux

package store

import "syscall"

// dieWithParent can do nothing where the kernel has no parent death signal: a killed parent leaves its etcd running, and the next one finds it in the way.
func dieWithParent(*syscall.SysProcAttr) {}
