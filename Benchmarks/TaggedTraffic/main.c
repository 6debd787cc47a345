// Packets with serial numbers that an observer of their first 128 bytes cannot see:
//
//   tagged-traffic serve                          answers TCP on port 7001 record by record, takes UDP on port 7002
//   tagged-traffic udp ADDRESS PACKETS FLOWS STYLE
//   tagged-traffic tcp ADDRESS CONNECTIONS RECORDS
//   tagged-traffic icmp ADDRESS PACKETS
//
// Two processes send, each on a CPU of its own, as fast as they can. A serial is 16 bytes: a magic number and the number
// itself, at byte 100 of what TCP, UDP or ICMP carries, which is byte 128 or later from the IP header on. What lies before
// is the same in all packets but where a style says otherwise. Styles of UDP:
//
//   numbered  connected sockets, so that the kernel counts the IP ID for each
//   equal     unconnected sockets, so that the IP ID is 0 and all packets of a flow are copies of one another
//   shared    as equal, but both processes send from the same sockets
//   paced     as equal, 5,000 packets a second
//   again     IP ID 0; each packet has a number of its own, and is sent a second time 200 ms later (TCP's shortest timeout)
//   twice     the same, but the second time at once
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { senders = 2, serial_offset = 100, payload_size = 192, tcp_port = 7001, udp_port = 7002, record_limit = 2048 };

static const uint64_t magic = 0x73657269616C2331;

static void put64(unsigned char *place, uint64_t value) {
    for (int index = 0; index < 8; index++) place[index] = (unsigned char)(value >> (56 - 8 * index));
}

static void put_serial(unsigned char *payload, uint64_t serial) {
    put64(payload + serial_offset, magic);
    put64(payload + serial_offset + 8, serial);
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

// The process's share of the CPUs that it may use.
static void take_cpu(int number) {
    cpu_set_t all, own;
    if (sched_getaffinity(0, sizeof all, &all) != 0) return;
    int wanted = number % CPU_COUNT(&all);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &all) || wanted-- > 0) continue;
        CPU_ZERO(&own);
        CPU_SET(cpu, &own);
        sched_setaffinity(0, sizeof own, &own);
        return;
    }
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static struct sockaddr_in address_of(const char *text, int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    if (inet_pton(AF_INET, text, &address.sin_addr) != 1) {
        fprintf(stderr, "tagged-traffic: %s is not an IPv4 address\n", text);
        exit(64);
    }
    return address;
}

static const char *const no_memory = "malloc";

// MARK: UDP

static void send_udp(int descriptor, const unsigned char *payload, const struct sockaddr_in *target) {
    for (int attempt = 0; attempt < 100; attempt++) {
        ssize_t sent = target ? sendto(descriptor, payload, payload_size, 0, (const struct sockaddr *)target, sizeof *target)
                              : send(descriptor, payload, payload_size, 0);
        if (sent == payload_size) return;
        if (errno != ENOBUFS && errno != EAGAIN && errno != ECONNREFUSED) fail("send");
    }
    fail("send");
}

static void udp_sender(int number, const int *sockets, int flows, const struct sockaddr_in *target, long packets, char style) {
    unsigned char payload[payload_size] = {0};
    uint64_t serial = (uint64_t)number << 56;
    double *due = style == 'a' ? malloc((size_t)packets * sizeof *due) : NULL;
    if (style == 'a' && !due) fail(no_memory);
    long repeated = 0;
    double begun = now();
    for (long packet = 0; packet < packets; packet++) {
        int descriptor = sockets[packet % flows];
        if (style == 'p' && begun + (double)packet * senders / 5000 > now()) usleep(200);
        if (style == 'a' || style == 't') put64(payload, (uint64_t)packet + 1);
        put_serial(payload, ++serial);
        send_udp(descriptor, payload, target);
        if (style == 't') {
            put_serial(payload, ++serial);
            send_udp(descriptor, payload, target);
        }
        if (style != 'a') continue;
        due[packet] = now() + 0.2;
        while (repeated <= packet && (due[repeated] <= now() || packet + 1 == packets)) {
            double wait = due[repeated] - now();
            if (wait > 0) usleep((useconds_t)(wait * 1e6));
            put64(payload, (uint64_t)repeated + 1);
            put_serial(payload, ++serial);
            send_udp(sockets[repeated % flows], payload, target);
            repeated++;
        }
    }
    free(due);
}

static int udp(char **words) {
    struct sockaddr_in target = address_of(words[0], udp_port);
    long packets = atol(words[1]);
    int flows = atoi(words[2]);
    char style = words[3][0];
    if (flows < 1 || packets < 1 || !strchr("nespat", style)) return 64;
    // Beside the flows of the other process, or the same.
    int own = style == 's' ? flows : (flows + senders - 1) / senders;
    int *sockets = malloc(sizeof *sockets * (size_t)own * senders);
    if (!sockets) fail(no_memory);
    for (int index = 0; index < own * senders; index++) {
        if (style == 's' && index >= own) {
            sockets[index] = sockets[index - own];
            continue;
        }
        sockets[index] = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        struct sockaddr_in local = {.sin_family = AF_INET, .sin_port = htons((uint16_t)(20000 + index))};
        if (sockets[index] < 0 || bind(sockets[index], (struct sockaddr *)&local, sizeof local) != 0) fail("socket");
        // Neither connected nor to be fragmented: the IP ID is 0 (ip_select_ident_segs in the kernel's ip.h).
        int whole = IP_PMTUDISC_DO;
        if (style != 'n') setsockopt(sockets[index], IPPROTO_IP, IP_MTU_DISCOVER, &whole, sizeof whole);
        if (style == 'n' && connect(sockets[index], (struct sockaddr *)&target, sizeof target) != 0) fail("connect");
    }
    double begun = now();
    for (int number = 0; number < senders; number++) {
        pid_t child = fork();
        if (child < 0) fail("fork");
        if (child == 0) {
            take_cpu(number);
            udp_sender(number + 1, sockets + number * own, own, style == 'n' ? NULL : &target, packets / senders, style);
            exit(0);
        }
    }
    int status = 0;
    for (int status_of_one; wait(&status_of_one) > 0;) status |= status_of_one;
    printf("%.3f s\n", now() - begun);
    return status != 0;
}

// MARK: ICMP

static uint16_t checksum(const unsigned char *bytes, size_t count) {
    uint32_t sum = 0;
    for (size_t index = 0; index + 1 < count; index += 2) sum += (uint32_t)bytes[index] << 8 | bytes[index + 1];
    while (sum >> 16) sum = (sum & 0xFFFF) + (sum >> 16);
    return (uint16_t)~sum;
}

static void icmp_sender(int number, const struct sockaddr_in *target, long packets) {
    int descriptor = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP);
    if (descriptor < 0 || connect(descriptor, (const struct sockaddr *)target, sizeof *target) != 0) fail("raw socket");
    // Nobody reads the replies here: the kernel counts them, the probes see them.
    int room = 1;
    setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    unsigned char message[8 + payload_size] = {8};
    for (long packet = 0; packet < packets; packet++) {
        uint16_t identifier = (uint16_t)(number * 16 + packet % 8);
        uint16_t sequence = (uint16_t)(packet / 8);
        message[2] = message[3] = 0;
        message[4] = (unsigned char)(identifier >> 8);
        message[5] = (unsigned char)identifier;
        message[6] = (unsigned char)(sequence >> 8);
        message[7] = (unsigned char)sequence;
        put_serial(message + 8, (uint64_t)number << 56 | (uint64_t)(packet + 1));
        uint16_t sum = checksum(message, sizeof message);
        message[2] = (unsigned char)(sum >> 8);
        message[3] = (unsigned char)sum;
        if (send(descriptor, message, sizeof message, 0) != (ssize_t)sizeof message) fail("send");
    }
}

static int icmp(char **words) {
    struct sockaddr_in target = address_of(words[0], 0);
    long packets = atol(words[1]);
    double begun = now();
    for (int number = 0; number < senders; number++) {
        pid_t child = fork();
        if (child < 0) fail("fork");
        if (child == 0) {
            take_cpu(number);
            icmp_sender(number + 1, &target, packets / senders);
            exit(0);
        }
    }
    int status = 0;
    for (int status_of_one; wait(&status_of_one) > 0;) status |= status_of_one;
    printf("%.3f s\n", now() - begun);
    return status != 0;
}

// MARK: TCP: records of one segment each

static void make_plain(int descriptor) {
    int on = 1, segment = 512;
    setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(descriptor, IPPROTO_TCP, TCP_MAXSEG, &segment, sizeof segment);
}

// Payload of one segment.
static int record_size(int descriptor) {
    struct tcp_info info = {0};
    socklen_t length = sizeof info;
    if (getsockopt(descriptor, IPPROTO_TCP, TCP_INFO, &info, &length) != 0) fail("TCP_INFO");
    if (info.tcpi_snd_mss < serial_offset + 16 || info.tcpi_snd_mss > record_limit) {
        fprintf(stderr, "tagged-traffic: segments carry %u bytes\n", info.tcpi_snd_mss);
        exit(1);
    }
    return (int)info.tcpi_snd_mss;
}

static void write_all(int descriptor, const unsigned char *bytes, int count) {
    while (count > 0) {
        ssize_t written = write(descriptor, bytes, (size_t)count);
        if (written <= 0) fail("write");
        bytes += written;
        count -= (int)written;
    }
}

static void read_all(int descriptor, unsigned char *bytes, int count) {
    while (count > 0) {
        ssize_t received = read(descriptor, bytes, (size_t)count);
        if (received <= 0) fail("read");
        bytes += received;
        count -= (int)received;
    }
}

static void tcp_sender(int number, const struct sockaddr_in *target, int connections, int records) {
    enum { at_once = 16, burst = 8 };
    unsigned char record[record_limit] = {0}, answer[record_limit];
    uint64_t serial = (uint64_t)number << 56;
    for (int first = 0; first < connections; first += at_once) {
        int sockets[at_once], count = connections - first < at_once ? connections - first : at_once;
        for (int index = 0; index < count; index++) {
            sockets[index] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
            make_plain(sockets[index]);
            if (connect(sockets[index], (const struct sockaddr *)target, sizeof *target) != 0) fail("connect");
        }
        int size = record_size(sockets[0]);
        for (int done = 0; done < records; done += burst) {
            for (int index = 0; index < count; index++) {
                for (int step = 0; step < burst; step++) {
                    put_serial(record, ++serial);
                    write_all(sockets[index], record, size);
                }
            }
            for (int index = 0; index < count; index++) {
                for (int step = 0; step < burst; step++) read_all(sockets[index], answer, size);
            }
        }
        for (int index = 0; index < count; index++) close(sockets[index]);
    }
}

static int tcp(char **words) {
    struct sockaddr_in target = address_of(words[0], tcp_port);
    int connections = atoi(words[1]), records = atoi(words[2]);
    double begun = now();
    for (int number = 0; number < senders; number++) {
        pid_t child = fork();
        if (child < 0) fail("fork");
        if (child == 0) {
            take_cpu(number);
            tcp_sender(number + 1, &target, connections / senders, records);
            exit(0);
        }
    }
    int status = 0;
    for (int status_of_one; wait(&status_of_one) > 0;) status |= status_of_one;
    printf("%.3f s\n", now() - begun);
    return status != 0;
}

// A connection of the server's with the part of a record that has come so far.
struct peer {
    int descriptor, size, count;
    unsigned char record[record_limit];
};

static void serve_tcp(int number) {
    take_cpu(number);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1, queue = epoll_create1(EPOLL_CLOEXEC);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(listener, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    make_plain(listener);
    struct sockaddr_in local = {.sin_family = AF_INET, .sin_port = htons(tcp_port)};
    if (listener < 0 || queue < 0 || bind(listener, (struct sockaddr *)&local, sizeof local) != 0 || listen(listener, 256) != 0)
        fail("listen");
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(queue, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        if (epoll_wait(queue, &event, 1, -1) < 1) continue;
        struct peer *peer = event.data.ptr;
        if (!peer) {
            peer = calloc(1, sizeof *peer);
            if (!peer) fail(no_memory);
            peer->descriptor = accept(listener, NULL, NULL);
            if (peer->descriptor < 0) {
                free(peer);
                continue;
            }
            make_plain(peer->descriptor);
            event = (struct epoll_event){.events = EPOLLIN, .data.ptr = peer};
            epoll_ctl(queue, EPOLL_CTL_ADD, peer->descriptor, &event);
            continue;
        }
        if (peer->size == 0) peer->size = record_size(peer->descriptor);
        ssize_t count = read(peer->descriptor, peer->record + peer->count, (size_t)(peer->size - peer->count));
        if (count <= 0) {
            close(peer->descriptor);
            free(peer);
            continue;
        }
        peer->count += (int)count;
        if (peer->count < peer->size) continue;
        write_all(peer->descriptor, peer->record, peer->size);
        peer->count = 0;
    }
}

static int serve(void) {
    signal(SIGPIPE, SIG_IGN);
    int sink = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in local = {.sin_family = AF_INET, .sin_port = htons(udp_port)};
    // Segments that do not fit into its buffer are dropped behind INPUT.
    if (sink < 0 || bind(sink, (struct sockaddr *)&local, sizeof local) != 0) fail("bind");
    pid_t children[senders];
    for (int number = 0; number < senders; number++) {
        children[number] = fork();
        if (children[number] < 0) fail("fork");
        if (children[number] == 0) serve_tcp(number);
    }
    usleep(100000);
    printf("serving\n");
    fflush(stdout);
    sigset_t ends;
    sigemptyset(&ends);
    sigaddset(&ends, SIGINT);
    sigaddset(&ends, SIGTERM);
    sigprocmask(SIG_BLOCK, &ends, NULL);
    int received;
    sigwait(&ends, &received);
    for (int number = 0; number < senders; number++) kill(children[number], SIGKILL);
    return 0;
}

int main(int count, char **words) {
    int result = 64;
    if (count == 2 && strcmp(words[1], "serve") == 0) result = serve();
    if (count == 6 && strcmp(words[1], "udp") == 0) result = udp(words + 2);
    if (count == 5 && strcmp(words[1], "tcp") == 0) result = tcp(words + 2);
    if (count == 4 && strcmp(words[1], "icmp") == 0) result = icmp(words + 2);
    if (result == 64)
        fprintf(stderr, "usage: tagged-traffic serve | udp ADDRESS PACKETS FLOWS STYLE | tcp ADDRESS CONNECTIONS RECORDS | "
                        "icmp ADDRESS PACKETS\n");
    return result;
}
