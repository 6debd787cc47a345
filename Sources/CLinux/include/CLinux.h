// The few calls and constants that Swift's Glibc module does not import.
#pragma once

#include <linux/netlink.h>
#include <sys/eventfd.h>

/// setns(2) is behind _GNU_SOURCE, which Swift's importer does not define.
int ipt_setns(int descriptor, int kind);

/// CLONE_NEWNET of sched.h, for the same reason.
enum { IPT_CLONE_NEWNET = 0x40000000 };

/// Switches O_DIRECT of open(2) on or off, which is behind _GNU_SOURCE and not the same number everywhere.
int ipt_set_direct(int descriptor, int is_direct);

/// mremap(2) with MREMAP_MAYMOVE, which is behind _GNU_SOURCE.
void *ipt_remap(void *memory, unsigned long old_size, unsigned long new_size);

/// epoll_create1(2) with EPOLL_CLOEXEC. Swift's Glibc has none of epoll(7).
int ipt_epoll_create(void);

/// Waits for input of `descriptor` from now on; `key` stands for it.
int ipt_epoll_add(int epoll, int descriptor, unsigned long long key);

/// Puts the keys of descriptors with input into `keys`, at most `count` and 64, without waiting, and gives their number.
int ipt_epoll_ready(int epoll, unsigned long long *keys, int count);

/// Asks the processor for the cache line at `address`, which need not be valid.
static inline void ipt_prefetch(const void *address) { __builtin_prefetch(address); }

/// Mounts a file system at no path, with fsopen(2) and fsmount(2), which older C libraries lack: a descriptor of it, or negative.
int ipt_mount_detached(const char *type);

/// pidfd_open(2), which older C libraries lack.
int ipt_pidfd_open(int pid);

/// pidfd_send_signal(2), for the same reason.
int ipt_pidfd_send_signal(int descriptor, int signal);

/// unshare(2), which is behind _GNU_SOURCE.
int ipt_unshare(int kind);

/// A packet(7) socket that takes the IP packets which come in by one interface, without waiting: its descriptor, or negative.
int ipt_packet_socket(unsigned int interface);

/// Sends an IP packet out by an interface, to the 6 bytes of a link-layer address.
long ipt_packet_send(int descriptor, unsigned int interface, int is_ipv4, const unsigned char *address, const void *packet, unsigned long length);
