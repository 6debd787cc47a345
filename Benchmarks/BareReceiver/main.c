// Receives an NFLOG group in some network namespaces and throws everything away: the floor that `collect` is measured against.
//
//   bare-receiver GROUP NAMESPACE... [--threshold N] [--buffer BYTES]
//
// NAMESPACE is a name under /run/netns, or "host" for the one that it is started in. SIGINT ends it; then it prints how many
// events it received and how many the gaps in their numbers say were lost.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_log.h>
#include <linux/netlink.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { maximum = 128 };

struct source {
    int descriptor;
    uint32_t next;
    unsigned long events, lost, deliveries;
};

static volatile sig_atomic_t stopping;
static void stop(int number) { stopping = number; }

struct message {
    char bytes[256];
    size_t length;
};

static void put(struct message *message, uint16_t type, const void *value, uint16_t size) {
    struct nlattr attribute = {.nla_len = (uint16_t)(NLA_HDRLEN + size), .nla_type = type};
    memcpy(message->bytes + message->length, &attribute, sizeof attribute);
    memcpy(message->bytes + message->length + NLA_HDRLEN, value, size);
    message->length += NLA_ALIGN(attribute.nla_len);
}

// The settings of ipt-trace, in one message as it sends them.
static int bind_group(int descriptor, uint16_t group, uint32_t threshold, uint32_t buffer) {
    struct message message = {.length = NLMSG_HDRLEN + sizeof(struct nfgenmsg)};
    struct nfulnl_msg_config_cmd command = {.command = NFULNL_CFG_CMD_BIND};
    struct nfulnl_msg_config_mode mode = {.copy_range = htonl(128), .copy_mode = NFULNL_COPY_PACKET};
    uint32_t timeout = htonl(1);
    uint16_t flags = htons(NFULNL_CFG_F_SEQ | NFULNL_CFG_F_SEQ_GLOBAL);
    threshold = htonl(threshold);
    buffer = htonl(buffer);
    put(&message, NFULA_CFG_CMD, &command, sizeof command);
    put(&message, NFULA_CFG_MODE, &mode, sizeof mode);
    put(&message, NFULA_CFG_NLBUFSIZ, &buffer, sizeof buffer);
    put(&message, NFULA_CFG_QTHRESH, &threshold, sizeof threshold);
    put(&message, NFULA_CFG_TIMEOUT, &timeout, sizeof timeout);
    put(&message, NFULA_CFG_FLAGS, &flags, sizeof flags);
    struct nlmsghdr header = {
        .nlmsg_len = (uint32_t)message.length,
        .nlmsg_type = NFNL_SUBSYS_ULOG << 8 | NFULNL_MSG_CONFIG,
        .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK,
    };
    struct nfgenmsg general = {.res_id = htons(group)};
    memcpy(message.bytes, &header, sizeof header);
    memcpy(message.bytes + NLMSG_HDRLEN, &general, sizeof general);
    if (send(descriptor, message.bytes, message.length, 0) < 0) return -1;
    struct {
        struct nlmsghdr header;
        struct nlmsgerr error;
    } answer = {0};
    if (recv(descriptor, &answer, sizeof answer, 0) < 0) return -1;
    errno = -answer.error.error;
    return answer.error.error == 0 ? 0 : -1;
}

static int open_source(const char *name, uint16_t group, uint32_t threshold, uint32_t buffer) {
    char path[256];
    snprintf(path, sizeof path, "/run/netns/%s", name);
    int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    if (strcmp(name, "host") != 0) {
        int namespace = open(path, O_RDONLY | O_CLOEXEC);
        if (namespace < 0 || setns(namespace, CLONE_NEWNET) != 0) return -1;
        close(namespace);
    }
    int descriptor = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
    int size = 32 << 20, on = 1;
    if (setsockopt(descriptor, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) != 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    setsockopt(descriptor, SOL_NETLINK, NETLINK_NO_ENOBUFS, &on, sizeof on);
    if (descriptor < 0 || bind_group(descriptor, group, threshold, buffer) != 0) return -1;
    if (setns(home, CLONE_NEWNET) != 0) return -1;
    close(home);
    return descriptor;
}

// Each message is looked at as far as its sequence number, which is what loss is counted by.
static void take(struct source *source, const char *bytes, size_t length) {
    for (size_t at = 0; at + NLMSG_HDRLEN <= length;) {
        const struct nlmsghdr *header = (const struct nlmsghdr *)(bytes + at);
        if (header->nlmsg_len < NLMSG_HDRLEN || at + header->nlmsg_len > length) return;
        if (header->nlmsg_type == (NFNL_SUBSYS_ULOG << 8 | NFULNL_MSG_PACKET)) {
            source->events++;
            for (size_t inner = NLMSG_HDRLEN + sizeof(struct nfgenmsg); inner + NLA_HDRLEN <= header->nlmsg_len;) {
                const struct nlattr *attribute = (const struct nlattr *)(bytes + at + inner);
                if (attribute->nla_len < NLA_HDRLEN) break;
                if (attribute->nla_type == NFULA_SEQ) {
                    uint32_t number;
                    memcpy(&number, (const char *)attribute + NLA_HDRLEN, sizeof number);
                    number = ntohl(number);
                    source->lost += number - source->next;
                    source->next = number + 1;
                }
                inner += NLA_ALIGN(attribute->nla_len);
            }
        }
        at += NLMSG_ALIGN(header->nlmsg_len);
    }
}

int main(int count, char **words) {
    static struct source sources[maximum];
    static struct pollfd waits[maximum];
    static char buffer[1 << 18] __attribute__((aligned(8)));
    uint32_t threshold = 400, size = 130000;
    const char *names[maximum];
    int namespaces = 0;
    for (int word = 2; word < count; word++) {
        if (strcmp(words[word], "--threshold") == 0 && word + 1 < count) {
            threshold = (uint32_t)atol(words[++word]);
        } else if (strcmp(words[word], "--buffer") == 0 && word + 1 < count) {
            size = (uint32_t)atol(words[++word]);
        } else if (namespaces < maximum) {
            names[namespaces++] = words[word];
        }
    }
    if (namespaces == 0) {
        fprintf(stderr, "usage: bare-receiver GROUP NAMESPACE... [--threshold N] [--buffer BYTES]\n");
        return 64;
    }
    for (int index = 0; index < namespaces; index++) {
        sources[index].descriptor = open_source(names[index], (uint16_t)atoi(words[1]), threshold, size);
        if (sources[index].descriptor < 0) {
            fprintf(stderr, "bare-receiver: namespace %s: %s\n", names[index], strerror(errno));
            return 1;
        }
        waits[index] = (struct pollfd){.fd = sources[index].descriptor, .events = POLLIN};
    }
    struct sigaction action = {.sa_handler = stop};
    sigaction(SIGINT, &action, NULL);
    // Whoever started this may have had it blocked.
    sigset_t interrupt;
    sigemptyset(&interrupt);
    sigaddset(&interrupt, SIGINT);
    sigprocmask(SIG_UNBLOCK, &interrupt, NULL);
    fprintf(stderr, "draining\n");
    while (!stopping) {
        if (poll(waits, (nfds_t)namespaces, 1000) <= 0) continue;
        for (int index = 0; index < namespaces; index++) {
            if (waits[index].revents == 0) continue;
            for (int turn = 0; turn < 128; turn++) {
                ssize_t length = recv(sources[index].descriptor, buffer, sizeof buffer, MSG_DONTWAIT);
                if (length < 0) break;
                sources[index].deliveries++;
                take(&sources[index], buffer, (size_t)length);
            }
        }
    }
    struct source total = {0};
    for (int index = 0; index < namespaces; index++) {
        total.events += sources[index].events;
        total.lost += sources[index].lost;
        total.deliveries += sources[index].deliveries;
    }
    printf("%lu events, %lu events lost, %lu deliveries\n", total.events, total.lost, total.deliveries);
    return 0;
}
