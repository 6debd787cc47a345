#define _GNU_SOURCE
#include <errno.h>
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <string.h>
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

int ipt_unshare(int kind) { return unshare(kind); }

int ipt_packet_socket(unsigned int interface) {
    /* Bound to no protocol until it is bound to the interface, so that it takes nothing of others meanwhile. */
    int descriptor = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (descriptor < 0) return -1;
    int on = 1;
    struct sockaddr_ll address = {
        .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = (int)interface};
    if (setsockopt(descriptor, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof on) == 0
        && bind(descriptor, (struct sockaddr *)&address, sizeof address) == 0)
        return descriptor;
    int code = errno;
    close(descriptor);
    errno = code;
    return -1;
}

long ipt_packet_send(
    int descriptor, unsigned int interface, int is_ipv4, const unsigned char *address, const void *packet, unsigned long length) {
    struct sockaddr_ll target = {
        .sll_family = AF_PACKET, .sll_protocol = htons(is_ipv4 ? ETH_P_IP : ETH_P_IPV6), .sll_ifindex = (int)interface,
        .sll_halen = ETH_ALEN};
    memcpy(target.sll_addr, address, ETH_ALEN);
    return sendto(descriptor, packet, length, 0, (struct sockaddr *)&target, sizeof target);
}
