// Asks an HTTP endpoint of 127.0.0.1 again and again over one connection that is kept alive.
//
//   reader PORT SECONDS INTERVAL-MS PATH...      (interval 0: the next request as soon as the answer is there)
//
// SIGINT ends it early. Prints requests, requests per second, and how long answers took, in milliseconds.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { most = 4 << 20 };
static volatile sig_atomic_t stopping;
static void stop(int number) { stopping = number; }

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static int by_value(const void *left, const void *right) {
    float a = *(const float *)left, b = *(const float *)right;
    return (a > b) - (a < b);
}

// Reads one response; its length, or -1.
static long answer(int descriptor) {
    static char head[1 << 16];
    static char body[1 << 18];
    size_t have = 0;
    char *end = NULL;
    while (end == NULL) {
        if (have == sizeof head - 1) return -1;
        ssize_t count = recv(descriptor, head + have, sizeof head - 1 - have, 0);
        if (count <= 0) return -1;
        have += (size_t)count;
        head[have] = 0;
        end = strstr(head, "\r\n\r\n");
    }
    if (strncmp(head, "HTTP/1.1 200", 12) != 0) return -1;
    const char *field = strcasestr(head, "\r\ncontent-length:");
    if (field == NULL || field > end) return -1;
    long length = atol(field + 17);
    long left = length - (long)(have - (size_t)(end + 4 - head));
    while (left > 0) {
        ssize_t count = recv(descriptor, body, left < (long)sizeof body ? (size_t)left : sizeof body, 0);
        if (count <= 0) return -1;
        left -= count;
    }
    return length;
}

int main(int count, char **words) {
    if (count < 5) {
        fprintf(stderr, "usage: reader PORT SECONDS INTERVAL-MS PATH...\n");
        return 64;
    }
    struct sigaction action = {.sa_handler = stop};
    sigaction(SIGINT, &action, NULL);
    // Whoever started this may have had it blocked.
    sigset_t interrupt;
    sigemptyset(&interrupt);
    sigaddset(&interrupt, SIGINT);
    sigprocmask(SIG_UNBLOCK, &interrupt, NULL);
    struct sockaddr_in target = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(words[1]))};
    target.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    double length = atof(words[2]), interval = atof(words[3]) / 1000;
    int descriptor = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    if (descriptor < 0 || connect(descriptor, (struct sockaddr *)&target, sizeof target) != 0) {
        perror("reader");
        return 1;
    }
    setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    float *times = malloc(most * sizeof *times);
    if (times == NULL) return 1;
    size_t requests = 0;
    double bytes = 0, begun = now();
    while (!stopping && now() - begun < length && requests < most) {
        char request[1024];
        int size = snprintf(
            request, sizeof request, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", words[4 + requests % (size_t)(count - 4)]);
        double asked = now();
        if (send(descriptor, request, (size_t)size, MSG_NOSIGNAL) != size) return 1;
        long got = answer(descriptor);
        if (got < 0) {
            if (stopping) break;
            fprintf(stderr, "reader: no answer to %s: %s\n", request, strerror(errno));
            return 1;
        }
        double done = now();
        times[requests++] = (float)((done - asked) * 1000);
        bytes += (double)got;
        double rest = asked + interval - done;
        if (rest > 0) usleep((useconds_t)(rest * 1e6));
    }
    double seconds = now() - begun;
    if (requests == 0) return 1;
    qsort(times, requests, sizeof *times, by_value);
    printf(
        "%zu requests, %.0f requests/s, median %.3f ms, 99th percentile %.3f ms, longest %.3f ms, %.0f bytes each\n", requests,
        (double)requests / seconds, (double)times[requests / 2], (double)times[requests * 99 / 100],
        (double)times[requests - 1], bytes / (double)requests);
    return 0;
}
