#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "CLinux.h"

int ipt_setns(int descriptor, int kind) { return setns(descriptor, kind); }

int ipt_set_direct(int descriptor, int is_direct) {
    int flags = fcntl(descriptor, F_GETFL);
    if (flags < 0) return -1;
    return fcntl(descriptor, F_SETFL, is_direct ? flags | O_DIRECT : flags & ~O_DIRECT);
}

void *ipt_remap(void *memory, unsigned long old_size, unsigned long new_size) {
    return mremap(memory, old_size, new_size, MREMAP_MAYMOVE);
}

int ipt_pidfd_open(int pid) { return (int)syscall(SYS_pidfd_open, pid, 0); }

int ipt_pidfd_send_signal(int descriptor, int signal) { return (int)syscall(SYS_pidfd_send_signal, descriptor, signal, 0, 0); }
