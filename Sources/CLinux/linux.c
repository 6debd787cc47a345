#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/epoll.h>
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

int ipt_mount_detached(const char *type) {
    int context = (int)syscall(SYS_fsopen, type, 1 /* FSOPEN_CLOEXEC */);
    if (context < 0) return -1;
    int mount = -1;
    if (syscall(SYS_fsconfig, context, 6 /* FSCONFIG_CMD_CREATE */, NULL, NULL, 0) == 0)
        mount = (int)syscall(SYS_fsmount, context, 1 /* FSMOUNT_CLOEXEC */, 0);
    int code = errno;
    close(context);
    errno = code;
    return mount;
}

int ipt_pidfd_open(int pid) { return (int)syscall(SYS_pidfd_open, pid, 0); }

int ipt_pidfd_send_signal(int descriptor, int signal) { return (int)syscall(SYS_pidfd_send_signal, descriptor, signal, 0, 0); }

int ipt_epoll_create(void) { return epoll_create1(EPOLL_CLOEXEC); }

int ipt_epoll_add(int epoll, int descriptor, unsigned long long key) {
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = key};
    return epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, &event);
}

int ipt_epoll_ready(int epoll, unsigned long long *keys, int count) {
    struct epoll_event events[64];
    int ready = epoll_wait(epoll, events, count < 64 ? count : 64, 0);
    for (int index = 0; index < ready; index++) keys[index] = events[index].data.u64;
    return ready;
}
